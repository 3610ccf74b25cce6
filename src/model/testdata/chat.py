"""Conversations as transformers writes them with templates in the styles of well-known models: the truth of the tests in
`chat.rs`. The templates are our own; they use what published ones use.

    pip install transformers jinja2
    python src/model/testdata/chat.py > src/model/testdata/chat.json

Made with transformers 4.57.6.
"""

import json

from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "chatml": """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}""",
    "system by default": """
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set turns = messages[1:] %}
{%- else %}
    {%- set system = 'You help.' %}
    {%- set turns = messages %}
{%- endif %}
{{- '<|system|>\\n' + system + eos_token + '\\n' }}
{%- for message in turns %}
    {%- if loop.first %}{{ '(' ~ loop.length ~ ')' }}{% endif %}
    {{- '<|' ~ message.role ~ '|>\\n' ~ message.content.strip() ~ eos_token ~ '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{%- endif %}
""",
    "instructions": """{{ bos_token }}{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must take turns') }}
{% endif %}
{% if message['role'] == 'user' %}
{{ '[INST] ' + message['content'] + ' [/INST]' }}
{% elif message['role'] == 'assistant' %}
{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}
{% endif %}
{% endfor %}
""",
    "headers": """{%- set ns = namespace(count=0, last='') -%}
{{- bos_token -}}
{%- for message in messages -%}
{%- set ns.count = ns.count + 1 -%}
{%- if message.content is string and message.content.startswith('skip') -%}{%- continue -%}{%- endif -%}
<|start|>{{ message.role.upper() }}<|end|>

{{ message.content.split('</think>')[-1].lstrip('\\n') | trim }}<|eot_id|>
{%- set ns.last = message.role -%}
{%- endfor -%}
{{ '|' + ns.last + '|' ~ ns.count }}
""",
    "tools": """{%- if tools is defined and tools %}{{ tools | tojson }}{% else %}none{% endif %}
{{ {'b': [1, 2.5, true, none], 'a': 'ü<&>"'} | tojson }}
{{ {'a': [1]} | tojson(indent=2) }}
{% for key, value in messages[0].items() %}{{ key }}={{ value | length }};{% endfor %}
{{ messages | map(attribute='role') | join(',') }} {{ messages[-1]['content'][:3] }} {{ 'x' if messages | length > 1 else 'y' }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ undefined_thing }}.
""",
}
CONVERSATIONS = {
    "one": [("user", "  Hello?\n")],
    "several": [("user", "Hi"), ("assistant", "Oh\n</think>\nhello."), ("user", "skip this"), ("assistant", "é🙂")],
    "system": [("system", " Be brief. "), ("user", "Why?")],
}


def main():
    cases = []
    for style, template in TEMPLATES.items():
        for kind, turns in CONVERSATIONS.items():
            messages = [{"role": role, "content": content} for role, content in turns]
            case = {"name": f"{style}, {kind}", "template": template, "messages": messages}
            try:
                rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=True,
                                                    bos_token="<s>", eos_token="</s>")
                case["text"] = rendered[0]
            except Exception as error:
                case["error"] = str(error)
            cases.append(case)
    print(json.dumps({"cases": cases}, ensure_ascii=False, indent=1))


if __name__ == "__main__":
    main()
