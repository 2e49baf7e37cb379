"""Numbers about generated text: one file per metric, pure functions, each with an interval.

Every function returns an `Estimate`: value, count and a bootstrap interval over prompts, because
samples of one prompt are not independent.
"""

from ..states import text_losses as text_losses
from .diversity import distinct as distinct
from .diversity import repetition as repetition
from .estimates import Estimate as Estimate
from .estimates import bootstrap as bootstrap
from .fluency import exponential_of_mean as exponential_of_mean
from .fluency import perplexity as perplexity
from .kl import divergence as divergence
from .kl import text_divergence as text_divergence
from .lexicon import lexicon_scores as lexicon_scores
from .linear import LinearScorer as LinearScorer
from .linear import scorer_of as scorer_of
from .linear import train_scorer as train_scorer
from .masking import masked as masked
from .probes import ProbeScorer as ProbeScorer
from .probes import text_features as text_features
from .probes import train_probe as train_probe
from .records import encode_records as encode_records
from .scorers import HARMS as HARMS
from .scorers import Scorer as Scorer
from .scorers import load_scorer as load_scorer
from .sentences import acceptability as acceptability
from .sentences import text_perplexity as text_perplexity
from .similarity import mauve as mauve
from .style import any_probability as any_probability
from .style import expected_maximum as expected_maximum
from .style import mean_score as mean_score
from .style import positive_rate as positive_rate
