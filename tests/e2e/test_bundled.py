"""The bundled model steers: measured effects, not prose."""

import lmsteer
from lmsteer.metrics import lexicon_scores, perplexity, positive_rate


def test_the_demo_steer_moves_sentiment_by_a_lexicon(bundled):
    model, tokenizer = bundled
    steer = lmsteer.train(
        model, tokenizer, lmsteer.read_examples("bundled:sentiment"), calibrate=False
    )
    prompts = lmsteer.read_prompts("bundled:neutral")[:40]
    records = lmsteer.generate(
        model,
        tokenizer,
        prompts,
        strengths=[{steer: s} for s in (-3, 0, 3)],
        samples=2,
        max_new_tokens=24,
        min_new_tokens=24,
        top_p=0.9,
    )
    parts = [records[i::6] + records[i + 1 :: 6] for i in (0, 2, 4)]
    low, base, high = (positive_rate(p, lexicon_scores([r.text for r in p])).value for p in parts)
    assert low < base < high
    assert high - low > 0.3
    fluency = [perplexity(model, tokenizer, part).value for part in parts]
    assert max(fluency) < 3 * fluency[1]
