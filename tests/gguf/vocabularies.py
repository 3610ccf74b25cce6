"""Makes tests/data/tokenizers: vocabularies as other programs store them, and the ids these programs give.

    python tests/gguf/vocabularies.py SHAKESPEARE.txt SST2_BERT_FOLDER TOK512.bin

(transformers 4.57.6, tokenizers 0.22.2, sentencepiece). SHAKESPEARE.txt is tinyshakespeare (public domain); TOK512.bin and
its tokenizer.json are those of karpathy's stories260K (MIT); of the BERT folder only vocab.txt is taken.

golden.json holds the texts and, per folder, `ids` without and `special` with the tokens around a text.
"""

import json
import random
import shutil
import sys
from pathlib import Path

import sentencepiece as spm
import transformers as hf
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TESTS = Path(__file__).parent.parent
ROOT = TESTS / "data" / "tokenizers"
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def texts(shakespeare):
    """Lines of the play, then what breaks tokenizers: scripts, emoji, runs of spaces, numbers, line ends, noise."""
    rng = random.Random(5)
    lines = [line for line in shakespeare.splitlines() if line]
    found = ["", " ", "  ", "\n", "\n\n", " \n ", "a", " a", "a ", "  two  spaces   three", "\ttab\tand\t\ttabs"]
    found += ["It's I'll we'VE they'd DON'T", "12345 1,234.56 007 3.14e-10 ²³", "x=y+z; f(a[0])->b != c && !d"]
    found += ["naïve café résumé Ångström e\u0301", "Привет, мир", "日本語のテキスト", "中文字符 mixed 中 text", "한국어"]
    found += ["😀 emoji 👩‍👩‍👧 🇩🇪", "עברית العربية", "\u00a0nbsp\u2003em\u200bzero", "CRLF\r\nline\rend", "ﬁ ligature Ⅳ"]
    found += ["<s> </s> <unk> [CLS] [MASK] <|endoftext|> <|im_start|>user", "ends in newline\n", "under_score-dash—long…"]
    found += ["\n".join(rng.sample(lines, 4)) for _ in range(12)]
    alphabet = "aeiou stnrl THE  \n\t.,'0123456789éß中😀_-"
    found += ["".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 60))) for _ in range(60)]
    found += ["supercalifragilistic" * 8, "a" * 120]
    return found


def byte_level(model):
    """vocab.json and merges.txt of a tokenizer.json."""
    order = sorted(model["vocab"].items(), key=lambda item: item[1])
    merges = ["#version: 0.2"] + [" ".join(pair) for pair in model["merges"]]
    return json.dumps(dict(order), ensure_ascii=False) + "\n", "\n".join(merges) + "\n"


def write(folder, files):
    (ROOT / folder).mkdir(parents=True)
    for name, text in files.items():
        text = text if isinstance(text, str) else json.dumps(text) + "\n"
        (ROOT / folder / name).write_text(text)
    return str(ROOT / folder)


def ids_of(tokenizer, texts):
    encode = lambda special: [tokenizer.encode(text, add_special_tokens=special) for text in texts]
    return {"ids": encode(False), "special": encode(True)}


def main(shakespeare, bert, tok512):
    shutil.rmtree(ROOT, ignore_errors=True)
    play = Path(shakespeare).read_text()
    all_texts = texts(play)
    golden = {"texts": all_texts}
    own = json.loads((TESTS.parent / "assets/shakespeare/tokenizer.json").read_text())["model"]
    vocab, merges = byte_level(own)

    folder = write("gpt2", {"vocab.json": vocab, "merges.txt": merges})
    golden["gpt2"] = ids_of(hf.GPT2Tokenizer.from_pretrained(folder), all_texts)

    chat = {"<|im_start|>": 1024, "<|im_end|>": 1025}
    added = {str(i): {"content": t, "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                      "single_word": False} for t, i in [("<|endoftext|>", 0), *chat.items()]}  # fmt: skip
    config = {"tokenizer_class": "Qwen2Tokenizer", "add_prefix_space": False, "added_tokens_decoder": added,
              "bos_token": None, "eos_token": "<|endoftext|>", "unk_token": None, "pad_token": "<|endoftext|>"}  # fmt: skip
    folder = write("qwen2", {"vocab.json": vocab, "merges.txt": merges, "tokenizer_config.json": config})
    golden["qwen2"] = ids_of(hf.Qwen2Tokenizer.from_pretrained(folder), all_texts)

    # The class with slow rules of its own, twice: as usual, and with case and accents kept.
    words = (Path(bert) / "vocab.txt").read_text()
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    folder = write("bert", {"vocab.txt": words, "tokenizer_config.json": config})
    golden["bert"] = ids_of(hf.BertTokenizer.from_pretrained(folder), all_texts)
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False, "tokenize_chinese_chars": False}
    golden["bert-cased"] = ids_of(hf.BertTokenizer.from_pretrained(folder, **config), all_texts)
    pair = hf.BertTokenizer.from_pretrained(folder)("one two", "three")
    golden["bert-pair"] = {"ids": pair["input_ids"], "segments": pair["token_type_ids"]}

    (ROOT / "sentencepiece").mkdir()
    source = ROOT / "sentencepiece" / "play.txt"
    source.write_text(play)
    spm.SentencePieceTrainer.train(
        input=str(source), model_prefix=str(ROOT / "sentencepiece" / "tokenizer"), model_type="bpe", vocab_size=800,
        byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, user_defined_symbols=["<|im_start|>"], num_threads=1,
    )  # fmt: skip
    source.unlink()
    (ROOT / "sentencepiece" / "tokenizer.vocab").unlink()
    sp = spm.SentencePieceProcessor(model_file=str(ROOT / "sentencepiece" / "tokenizer.model"))
    # Special tokens written in a text are no concern of SentencePiece itself.
    plain = [text for text in all_texts if "<s>" not in text]
    golden["sentencepiece"] = {"texts": plain, "ids": [sp.encode(text) for text in plain]}

    (ROOT / "llama2c").mkdir()
    shutil.copy(tok512, ROOT / "llama2c" / "tok512.bin")

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    byte = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=["<|begin_of_text|>", "<|end_of_text|>"], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(play.splitlines(keepends=True), trainer)
    (ROOT / "llama3").mkdir()
    tokenizer.save(str(ROOT / "llama3" / "tokenizer.json"))
    golden["llama3"] = {"ids": [tokenizer.encode(text, add_special_tokens=False).ids for text in all_texts]}
    (ROOT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
