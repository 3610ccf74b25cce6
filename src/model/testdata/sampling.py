"""What transformers leaves of random logits: the truth of the tests in `sampling.rs`.

    pip install torch transformers
    python src/model/testdata/sampling.py > src/model/testdata/sampling.json

Made with transformers 4.57.6 and PyTorch 2.4.1; the processors in the order of `GenerationMixin`.
"""

import json

import torch
from transformers import (LogitsProcessorList, MinPLogitsWarper, RepetitionPenaltyLogitsProcessor,
                          TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper)

OPTIONS = [
    dict(repetition_penalty=1.0, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    dict(repetition_penalty=1.3, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0),
    dict(repetition_penalty=0.7, temperature=0.5, top_k=0, top_p=1.0, min_p=0.0),
    dict(repetition_penalty=1.0, temperature=0.8, top_k=5, top_p=1.0, min_p=0.0),
    dict(repetition_penalty=1.0, temperature=1.5, top_k=0, top_p=0.6, min_p=0.0),
    dict(repetition_penalty=1.0, temperature=1.0, top_k=0, top_p=1.0, min_p=0.2),
    dict(repetition_penalty=1.2, temperature=1.7, top_k=12, top_p=0.9, min_p=0.05),
    dict(repetition_penalty=2.0, temperature=0.7, top_k=3, top_p=0.5, min_p=0.5),
]


def main():
    generator = torch.Generator().manual_seed(11)
    cases = []
    for options in OPTIONS:
        logits = torch.randn(24, generator=generator) * 2
        before = torch.randint(0, 24, (9,), generator=generator)
        processors = LogitsProcessorList()
        if options["repetition_penalty"] != 1.0:
            processors.append(RepetitionPenaltyLogitsProcessor(options["repetition_penalty"]))
        if options["temperature"] != 1.0:
            processors.append(TemperatureLogitsWarper(options["temperature"]))
        if options["top_k"]:
            processors.append(TopKLogitsWarper(options["top_k"]))
        if options["top_p"] < 1.0:
            processors.append(TopPLogitsWarper(options["top_p"]))
        if options["min_p"]:
            processors.append(MinPLogitsWarper(options["min_p"]))
        scores = processors(before[None], logits[None].clone())[0]
        probabilities = torch.softmax(scores.double(), -1)
        cases.append(dict(options, logits=logits.tolist(), before=before.tolist(),
                          probabilities=probabilities.tolist()))
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
