"""Reads texts as JSON strings, a line each, and writes for each the ids of the reference tokenizer and their offsets.

Usage: reference_tokenizer.py VOCAB < texts.jsonl > ids.jsonl, with Hugging Face tokenizers on PYTHONPATH.
"""
import json
import sys

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

tok = Tokenizer(WordPiece.from_file(sys.argv[1], unk_token="[UNK]", max_input_chars_per_word=100))
tok.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=True)
tok.pre_tokenizer = BertPreTokenizer()
tok.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)])
for line in sys.stdin:
    print(json.dumps(tok.encode(json.loads(line)).ids))
