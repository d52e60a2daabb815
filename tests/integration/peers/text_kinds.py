"""Small tokenizers of every kind and chat templates of many styles, made on the spot.

make_kinds(folder) trains and saves one model folder a kind and returns {name: path}. Needs the PyPI
packages tokenizers, sentencepiece and transformers.
"""
import base64
import glob
import json
import pathlib
import sysconfig

from tokenizers import (AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers,
                        processors, trainers)

LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
                r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CHATML = ("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] }}<|im_end|>\n"
          "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def corpus():
    texts = [pathlib.Path(f).read_text(encoding="utf-8", errors="ignore")
             for f in sorted(glob.glob(sysconfig.get_paths()["stdlib"] + "/*.py"))[:25]]
    extra = ["Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich", "Съешь ещё этих мягких",
             "東京は日本の首都です。中文分词测试", "مرحبا بالعالم", "😀😃 family 👨‍👩‍👧 naïve café ½ ﬁ"]
    return texts + extra * 20


def save(folder, tokenizer, config, model_type=None):
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False))
    if model_type:
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


def byte_level(pre, vocab=520, normalizer=None, **bpe):
    tok = Tokenizer(models.BPE(**bpe))
    if normalizer:
        tok.normalizer = normalizer
    tok.pre_tokenizer = pre
    tok.decoder = decoders.ByteLevel()
    tok.train_from_iterator(corpus(), trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return tok


def split_then_bytes(*patterns):
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence(splits + [pre_tokenizers.ByteLevel(False, use_regex=False)])


def gpt2(root):
    tok = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tok.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    config = {"tokenizer_class": "GPT2Tokenizer", "bos_token": "<|endoftext|>",
              "eos_token": "<|endoftext|>", "chat_template": CHATML}
    return save(root / "gpt2", tok, config, "llama")


def llama3(root):
    tok = byte_level(split_then_bytes(LLAMA3_SPLIT), ignore_merges=True)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tok.add_special_tokens([AddedToken(n, special=True, normalized=False) for n in names])
    bos = tok.token_to_id(names[0])
    tok.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{names[0]} $A", pair=f"{names[0]} $A {names[0]}:1 $B:1",
                                      special_tokens=[(names[0], bos)])])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": names[0], "eos_token": "<|eot_id|>",
              "clean_up_tokenization_spaces": True, "chat_template": TEMPLATES["headers"]}
    return save(root / "llama3", tok, config, "llama")


def qwen(root, name, tokenizer_class, model_type):
    # The file itself lacks the class's pattern, so that who rules is visible.
    tok = byte_level(split_then_bytes(LLAMA3_SPLIT), normalizer=normalizers.NFC())
    decoder = {}
    for token, special in [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
                           ("<think>", False), ("</think>", False), ("<tool_call>", False)]:
        add = tok.add_special_tokens if special else tok.add_tokens
        add([AddedToken(token, special=special, normalized=False)])
        decoder[str(tok.token_to_id(token))] = {"content": token, "special": special, "normalized": False,
                                                "lstrip": False, "rstrip": False, "single_word": False}
    config = {"tokenizer_class": tokenizer_class, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
              "bos_token": None, "added_tokens_decoder": decoder, "add_bos_token": False,
              "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "chat_template": TEMPLATES["reasoning"]}
    return save(root / name, tok, config, model_type)


def sentencepiece_bpe(root):
    """A Llama 2 style model, read by LlamaTokenizer and saved again."""
    import sentencepiece
    from transformers import LlamaTokenizer
    folder = root / "llama2"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "corpus.txt").write_text("\n".join(corpus()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"), model_prefix=str(folder / "tokenizer"), vocab_size=900,
        model_type="bpe", byte_fallback=True, split_digits=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2, max_sentence_length=100000)
    tok = LlamaTokenizer.from_pretrained(str(folder))
    for leftover in ("corpus.txt", "tokenizer.model", "tokenizer.vocab"):
        (folder / leftover).unlink()
    tok.chat_template = TEMPLATES["instruct"]
    tok.save_pretrained(str(folder))
    config = json.loads((folder / "config.json").read_text()) if (folder / "config.json").exists() else {}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "llama"}))
    return folder


def legacy_llama(root, source, name, model_type):
    """The tokenizer.json that transformers 4 wrote for the same model: normalisers, no Metaspace."""
    spec = json.loads((source / "tokenizer.json").read_text())
    spec["pre_tokenizer"] = None
    spec["normalizer"] = {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]}
    spec["decoder"] = {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"},
        {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
    spec["post_processor"] = {"type": "TemplateProcessing",
                              "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                              "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                              "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    config = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
              "pad_token": None, "add_bos_token": True, "add_eos_token": False, "legacy": False,
              "added_tokens_decoder": {str(i): {"content": c, "lstrip": False, "normalized": False,
                                                "rstrip": False, "single_word": False, "special": True}
                                       for i, c in enumerate(["<unk>", "<s>", "</s>"])},
              "chat_template": TEMPLATES["instruct"]}
    folder = save(root / name, None, config, model_type)
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    return folder


def unigram(root):
    tok = Tokenizer(models.Unigram())
    tok.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tok.pre_tokenizer = pre_tokenizers.Metaspace()
    tok.decoder = decoders.Metaspace()
    tok.train_from_iterator(corpus(), trainers.UnigramTrainer(
        vocab_size=700, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>"))
    tok.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "</s>", "unk_token": "<unk>",
              "pad_token": "<pad>"}
    return save(root / "unigram", tok, config)


def unigram_byte_fallback(root):
    pieces = [["<unk>", 0.0]] + [[f"<0x{b:02X}>", -12.0] for b in range(256)]
    plain = json.loads((root / "unigram" / "tokenizer.json").read_text())["model"]["vocab"]
    pieces += [p for p in plain if p[0] not in ("<pad>", "</s>", "<unk>")]
    tok = Tokenizer(models.Unigram([tuple(p) for p in pieces], 0, True))
    tok.normalizer = normalizers.Replace(" ", "▁")
    tok.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "<unk>", "eos_token": "<eos>"}
    return save(root / "unigram_bytes", tok, config)


def wordpiece(root):
    tok = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tok.normalizer = normalizers.BertNormalizer(lowercase=True)
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece(prefix="##")
    tok.train_from_iterator(corpus(), trainers.WordPieceTrainer(
        vocab_size=900, show_progress=False, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]", "cls_token": "[CLS]",
              "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]",
              "clean_up_tokenization_spaces": True}
    return save(root / "wordpiece", tok, config)


def many_splits(root):
    """Several splits in a row, and added tokens with every flag."""
    tok = byte_level(split_then_bytes(r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+",
                                      r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
                                      r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"))
    tok.add_special_tokens([AddedToken("<｜begin｜>", special=True, normalized=False)])
    tok.add_tokens([AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True),
                    AddedToken("word", single_word=True), AddedToken("éa", normalized=True)])
    config = {"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<｜begin｜>", "eos_token": "<new end>",
              "extra_special_tokens": ["<extra>"], "image_token": "<image>", "chat_template": CHATML}
    return save(root / "many_splits", tok, config, "llama")


def tekken(root):
    source = json.loads((root / "gpt2" / "tokenizer.json").read_text())["model"]["vocab"]
    stand_in = {c: b for b, c in byte_table().items()}
    ranked = [bytes(stand_in[c] for c in token) for token, _ in sorted(source.items(), key=lambda kv: kv[1])]
    ranked = sorted([t for t in ranked if len(t) == 1]) + [t for t in ranked if len(t) > 1]
    specials = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    spec = {"config": {"pattern": LLAMA3_SPLIT.replace("{1,3}", ""), "num_vocab_tokens": len(ranked),
                       "default_vocab_size": len(ranked) - 10 + 20, "default_num_special_tokens": 20, "version": "v3"},
            "vocab": [{"rank": i, "token_bytes": base64.b64encode(t).decode(), "token_str": None}
                      for i, t in enumerate(ranked)],
            "special_tokens": [{"rank": i, "token_str": s, "is_control": True} for i, s in enumerate(specials)]}
    folder = root / "tekken"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tekken.json").write_text(json.dumps(spec))
    (folder / "config.json").write_text(json.dumps({"model_type": "mistral"}))
    return folder


def byte_table():
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in printable}
    for i, b in enumerate(b for b in range(256) if b not in table):
        table[b] = chr(256 + i)
    return table


def make_kinds(root):
    root = pathlib.Path(root)
    kinds = [gpt2(root), llama3(root), qwen(root, "qwen_class", "Qwen2Tokenizer", "qwen3"),
             qwen(root, "qwen_undeclared", None, "qwen2"), qwen(root, "qwen_file", "TokenizersBackend", "qwen3"),
             sentencepiece_bpe(root), unigram(root), unigram_byte_fallback(root), wordpiece(root),
             many_splits(root), tekken(root)]
    kinds += [legacy_llama(root, root / "llama2", "llama2_legacy", "llama"),
              legacy_llama(root, root / "llama2", "mistral_legacy", "mistral")]
    return {folder.name: folder for folder in kinds}


# Styles that published models use, each with its own traps.
TEMPLATES = {
    "chatml": CHATML,
    "headers": """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now("%d %b %Y") %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}
    {{- "Tools:\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- "Today: " + date_string + "\\n" + system_message + "<|eot_id|>" }}
{%- for message in messages %}
    {%- if 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("one tool call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' + (call.arguments | tojson) + "}<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
    {%- else %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "instruct": """\
{%- set ns = namespace(expect='user', count=0) %}
{{ bos_token }}{% for message in messages %}
{% if message['role'] == 'system' %}{% continue %}{% endif %}
{% if message['role'] != ns.expect %}{{ raise_exception('roles must alternate, not ' ~ message.role) }}{% endif %}
{% set ns.count = ns.count + 1 %}
{% if message['role'] == 'user' %}{% set ns.expect = 'assistant' %}[INST] {{ message['content'].strip() }} [/INST]{% else %}{% set ns.expect = 'user' %}{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}
{% if ns.count > 6 %}{% break %}{% endif %}
{% endfor %}{{ ns.count }}""",
    "reasoning": """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "user" or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set thoughts = '' %}
        {%- if message.reasoning_content is string %}
            {%- set thoughts = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and (loop.last or thoughts) %}
            {{- '<|im_start|>' + message.role + '\\n<think>\\n' + thoughts.strip('\\n') + '\\n</think>\\n\\n' + content }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- for call in message.tool_calls or [] %}
            {%- set call = call.function if call.function else call %}
            {{- '\\n<tool_call>\\n{"name": "' + call.name + '", "arguments": ' }}
            {{- call.arguments if call.arguments is string else call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" or not loop.previtem %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != "tool" %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "generation": """\
{% set leak = 'outer' %}
{% for message in messages %}
{% if message.role == 'assistant' %}
{%- generation -%}
{% set leak = 'inner' %}
   {{ message.content }}{{ leak }}
{%- endgeneration %}

{% else %}
  <{{ message.role | upper }}>{{ message.content }}
{% endif %}
{% endfor %}
{{ leak }}
""",
    "macros": """\
{%- macro show(value, depth=0, sep=', ') -%}
{%- if value is mapping -%}{ {%- for k, v in value.items() %}{{ k }}: {{ show(v, depth + 1) }}{{ sep if not loop.last }}{% endfor -%} }
{%- elif value is sequence and value is not string -%}[{% for v in value %}{{ show(v, depth + 1) }}{{ sep if not loop.last }}{% endfor %}]
{%- else -%}{{ value }}{%- endif -%}
{%- endmacro -%}
{% for message in messages %}{{ show(message) }}
{{ message }}|{{ message.keys() | list }}|{{ message.content | tojson }}|{{ [1, 2.5, none, true, 'a', "it's"] }}
{{ message.get('nothing', 'fallback') }} {{ message.content is sequence }} {{ message.content is iterable }}
{% endfor %}{{ tools | tojson(indent=2) if tools else 'no tools' }}{{ (tools or []) | map(attribute='function') | map(attribute='name') | join(', ') }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | map(attribute='role') | unique | sort | join('/') }}
{{ 1e16 }} {{ 1.5e-7 }} {{ 100000.0 }} {{ 7 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }} {{ 0.1 + 0.2 }}
{{ 'a' ~ 1 ~ true ~ none ~ 1.0 }} {{ 'x' * 3 }} {{ 'abc'[::-1] }} {{ 'abc'[-1] }} {{ "%s-%d" | format('q', 3) }}
{{ {'b': 1, 'a': [true, none]} | tojson }} {{ {'b': 1, 'a': 2} | dictsort }} {{ 'é<>&"' | tojson }} {{ 'é' | tojson(ensure_ascii=true) }}
{{ dict(a=1, b='c') }} {{ range(3) | list }} {{ ('a', 'b') }} {{ undefined_thing }}{{ undefined_thing is defined }}""",
    "methods": """\
{% for m in messages %}{% set c = m.content if m.content is string else 'none' %}
{{ c.upper() }}|{{ c.title() }}|{{ c.capitalize() }}|{{ c.replace('a', 'b') }}|{{ c.find('a') }}|{{ c.count('a') }}
{{ c.split() }}|{{ c.split(' ', 1) }}|{{ c.rsplit(' ', 1) }}|{{ c.splitlines() }}|{{ c.partition(' ') | list }}
{{ c.strip() }}|{{ c.lstrip(' \\n') }}|{{ c.rstrip('!') }}|{{ c.removeprefix('H') }}|{{ c.removesuffix('!') }}|{{ c | trim }}
{{ c.isdigit() }}|{{ c.startswith(('H', 'W')) }}|{{ c.endswith('!') }}|{{ ', '.join(c.split()) }}|{{ c | length }}
{{ c | replace('\\n', ' ') | truncate(length=20) }}|{{ c | indent(2) }}|{{ c[:5] }}|{{ c | first }}|{{ c | last }}|{{ '{}-{x}'.format(1, x=c | length) }}
{{ loop.index }} {{ loop.revindex }} {{ loop.first }} {{ loop.last }} {{ loop.length }} {{ loop.cycle('odd', 'even') }}
{% endfor %}
{%- filter upper %}filtered {{ bos_token }}{% endfilter %}
{% set block %}captured {{ eos_token }}{% endset %}{{ block | length }}{{ block }}
{% raw %}{{ raw }} {% generation %}{% endraw %}{# comment {% generation %} #}
{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ 'yes' if 'a' in 'abc' and 3 not in [1, 2] else 'no' }}
{% for x in [1, 2, 3] if x != 2 %}{{ x }}{% else %}none{% endfor %}{% for k in {'z': 1, 'y': 2} %}{{ k }}{% endfor %}
""",
}

TOOL = {"type": "function", "function": {
    "name": "get_wéather", "description": "Weather <now> & \"then\"",
    "parameters": {"type": "object", "properties": {"z_city": {"type": "string"}, "a_days": {"type": "integer", "default": 3}},
                   "required": ["z_city"]}}}
CALL = {"role": "assistant", "content": None, "tool_calls": [
    {"type": "function", "function": {"name": "get_wéather", "arguments": {"z_city": "Zürich", "a_days": 2.0, "b": [1, None, True]}}}]}
CHATS = [
    {"messages": [{"role": "user", "content": "Hello world!"}], "add_generation_prompt": True},
    {"messages": [{"role": "system", "content": "  Be kind. \n"}, {"role": "user", "content": " Hi\nthere, a b  c! "},
                  {"role": "assistant", "content": "<think>\nwhy\n</think>\n\nBecause."}, {"role": "user", "content": "Ok ✓"}],
     "add_generation_prompt": True, "enable_thinking": False},
    {"messages": [{"role": "user", "content": "W?"}, CALL, {"role": "tool", "content": "{\"t\": 21}"},
                  {"role": "tool", "content": "more"}, {"role": "assistant", "content": "21", "reasoning": "tool said"}],
     "tools": [TOOL]},
    {"messages": [{"role": "assistant", "content": "first", "thinking": "hm"}, {"role": "user", "content": "12 a"}]},
    {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}] * 4, "tools": []},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "part"}]}], "add_generation_prompt": True},
    {"messages": []},
    *({"messages": [{"role": "user", "content": "Go on"}, {"role": "assistant", **final}], "continue_final_message": field}
      for final, field in [
          ({"content": "The answer"}, True), ({"content": "trailing \n "}, True), ({"content": ""}, True),
          ({"content": "\t x \t"}, True), ({"content": "said", "reasoning_content": "so far"}, "reasoning_content"),
          ({"content": "said", "thinking": "so far"}, "thinking"), ({"content": "<think>\nhm"}, "content"),
          ({"content": "said", "reasoning": "a", "thinking": "b"}, "reasoning"), ({"content": "x"}, "tool_plan"),
          ({"content": [{"type": "text", "text": "one"}, {"type": "image"}, {"type": "text", "text": "two"}]}, True),
          ({"content": [{"type": "image"}]}, True), ({}, True), ({"content": "x"}, False), ({"content": "x"}, "")]),
    {"messages": [{"role": "user", "content": "Both?"}], "continue_final_message": True, "add_generation_prompt": True},
    {"messages": [{"role": "user", "content": "A user's "}], "continue_final_message": True},
]
