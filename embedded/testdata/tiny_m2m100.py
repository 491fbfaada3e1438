# Writes an M2M100 model of the right architecture, tiny and random, in CTranslate2's form: python tiny_m2m100.py PACKAGES DIR
import sys

sys.path.insert(0, sys.argv[1])
import ctranslate2, numpy, sentencepiece
from ctranslate2.specs import common_spec, transformer_spec

out, width, layers, heads = sys.argv[2], 32, 2, 4
words = "the house is red and the dog is big hello how are you la casa es roja y el perro grande hola qué tal".split()
sentences = [" ".join(words[i % len(words)] for i in range(n, n + 7)) for n in range(400)]
sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(sentences), model_prefix=f"{out}/sentencepiece.bpe", vocab_size=60, hard_vocab_limit=False)
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{out}/sentencepiece.bpe.model")
vocabulary = ["<s>", "<pad>", "</s>", "<unk>"] + [pieces.id_to_piece(i) for i in range(3, pieces.get_piece_size())] + ["__en__", "__es__", "__zh__"]

spec = transformer_spec.TransformerSpec.from_config((layers, layers), heads, pre_norm=True, activation=common_spec.Activation.RELU)
random = numpy.random.default_rng(1)


def matrix(*shape):
    return random.normal(0, 0.1, shape).astype(numpy.float32)


def linear(layer, n_in, n_out):
    layer.weight, layer.bias = matrix(n_out, n_in), matrix(n_out)


def norm(layer):
    layer.gamma, layer.beta = numpy.ones(width, numpy.float32), numpy.zeros(width, numpy.float32)


def attention(layer, own):
    norm(layer.layer_norm)
    for i, parts in enumerate((3, 1) if own else (1, 2, 1)):
        linear(layer.linear[i], width, parts * width)


def feed_forward(layer):
    norm(layer.layer_norm)
    linear(layer.linear_0, width, 2 * width)
    linear(layer.linear_1, 2 * width, width)


embedding = matrix(len(vocabulary), width)
for side in (spec.encoder, spec.decoder):
    side.scale_embeddings = True
    side.position_encodings.encodings = matrix(512, width)
    norm(side.layer_norm)
    for layer in side.layer:
        attention(layer.self_attention, True)
        if side is spec.decoder:
            attention(layer.attention, False)
        feed_forward(layer.ffn)
for e in spec.encoder.embeddings:
    e.weight = embedding
spec.decoder.embeddings.weight = embedding
spec.decoder.projection.weight = embedding
spec.config.decoder_start_token, spec.config.eos_token, spec.config.bos_token, spec.config.unk_token = "</s>", "</s>", "<s>", "<unk>"
spec.register_source_vocabulary(vocabulary)
spec.register_target_vocabulary(vocabulary)
spec.validate()
spec.save(out)
