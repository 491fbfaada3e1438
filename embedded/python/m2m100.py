# Serves an M2M100 model with CTranslate2, in the shape of LibreTranslate: POST /translate, GET /languages. After start.py and
# server.py.
import glob, re

import ctranslate2, sentencepiece

MAX_TOKENS = 200  # of a piece: the model knows 1024 positions and is at its best with a sentence or a few
translator = ctranslate2.Translator(cfg["model"], device="cpu", compute_type="auto", intra_threads=cfg["threads"])
pieces = sentencepiece.SentencePieceProcessor(model_file=cfg["sentencepiece"])


def languages():
    """The codes of the model's vocabulary, which holds a token __xx__ for each language."""
    for name in glob.glob(os.path.join(glob.escape(cfg["model"]), "*vocabulary*")):
        with open(name, encoding="utf-8") as f:
            tokens = json.load(f) if name.endswith(".json") else f.read().split("\n")
        found = sorted({m[1] for t in tokens if (m := re.fullmatch(r"__([a-z]{2,3})__", t))})
        if found:
            return found
    sys.exit("the vocabulary holds no language tokens: these are not the weights of an m2m100 model")


known = languages()


def cut(line):
    """Whole sentences of a line, together as many as fit; a longer sentence is cut where it is full."""
    out = []
    for sentence in re.findall(r".+?(?:[.!?…]+(?=\s)|[。！？]+|$)\s*", line):
        tokens = pieces.encode(sentence.strip(), out_type=str)
        while tokens:
            room = MAX_TOKENS - len(out[-1]) if out else 0
            if not out or len(tokens) > room:
                out.append([])
                room = MAX_TOKENS
            out[-1] += tokens[:room]
            tokens = tokens[room:]
    return out


def translate(text, source, target):
    """Line by line, so that line breaks stay; the pieces of all lines in one batch."""
    lines = [cut(line.strip()) for line in text.split("\n")]
    batch = [[f"__{source}__", *piece, "</s>"] for line in lines for piece in line]
    results = translator.translate_batch(batch, target_prefix=[[f"__{target}__"]] * len(batch), beam_size=4, max_batch_size=1024,
                                         batch_type="tokens", max_decoding_length=2 * MAX_TOKENS, disable_unk=True) if batch else []
    done = iter([pieces.decode([t for t in r.hypotheses[0] if t.strip("_") not in known or not t.startswith("__")]) for r in results])
    joint = "" if target in ("zh", "ja", "th", "lo", "km", "my") else " "
    return "\n".join(joint.join(next(done) for _ in line) for line in lines)


class Handler(JSONHandler):
    def do_GET(self):
        if self.path == "/languages":
            return self.reply(200, [{"code": c, "name": c, "targets": known} for c in known])
        self.reply(200, {"status": "ok"})

    def do_POST(self):
        try:
            q = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
            for code in (q["source"], q["target"]):
                if code not in known:
                    return self.reply(400, {"error": f"{code} is not supported"})
            self.reply(200, {"translatedText": translate(q["q"], q["source"], q["target"])})
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            self.reply(400, {"error": f"{type(e).__name__}: {e}"})
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as e:
            self.reply(500, {"error": f"{type(e).__name__}: {e}"})


serve(Handler)
