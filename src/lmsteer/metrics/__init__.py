"""Numbers about generated text: one file a metric, pure functions, each with an interval.

Every function returns an `Estimate`: value, count and a bootstrap interval over prompts, because
samples of one prompt are not independent.
"""

from .estimates import Estimate as Estimate
from .estimates import bootstrap as bootstrap
from .lexicon import lexicon_scores as lexicon_scores
from .perplexity import perplexity as perplexity
from .style import mean_score as mean_score
from .style import positive_rate as positive_rate
