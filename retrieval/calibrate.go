package retrieval

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// scale is an embedding model's own: cosines of all-MiniLM-L6-v2 run from 0 to 0.8, those of the bge family from 0.4 to 0.9,
// and a threshold on one says nothing about the other.
type scale struct {
	mean, deviation float64 // of the cosines of questions and passages that have nothing to do with each other
	together        float64 // mean cosine of a question and a passage that answers it
}

// plainScale is all-MiniLM-L6-v2's, as calibrate measures it.
var plainScale = scale{mean: 0.016, deviation: 0.068, together: 0.739}

const (
	// nearEnough on the model's scale: above it a cosine tells little about whether the passages answer, mostly that they are
	// about the same thing.
	nearEnough = 0.55
	// fewChunks: the chance of fewer is no longer estimated by their number.
	fewChunks = 100
)

// nearness brings the best cosine among n chunks to the model's scale: 0 for what chance reaches (the expected maximum of n
// normal draws, mean + deviation·√(2·ln n)), 1 for a question and its answer.
// ok is false for a model that tells answers from chance too badly: then words alone decide.
func (s scale) nearness(cosine float64, n int64) (near float64, ok bool) {
	apart := s.mean + s.deviation*math.Sqrt(2*math.Log(math.Max(float64(n), fewChunks)))
	if s.together-apart < minSpread {
		return 0, false
	}
	return math.Max(-0.5, math.Min(1, (cosine-apart)/(s.together-apart))), true
}

// minSpread between chance and an answer. all-MiniLM-L6-v2 has 0.4 among a thousand chunks.
const minSpread = 0.05

// probe is a question with a passage that answers it. The other probes' passages do not.
type probe struct{ question, passage string }

// probes are of unlike subjects, in the tone of questions and documents.
var probes = []probe{
	{"Why do leaves change colour in autumn?", "As the days grow shorter, trees stop making chlorophyll. When the green fades, the yellow and orange pigments that were hidden in the leaves become visible."},
	{"How is the interest on a savings account calculated?", "Interest is calculated daily on the closing balance of the savings account and is credited at the end of each month at the annual rate."},
	{"What should I do if my passport was stolen abroad?", "If your passport is stolen in another country, report the theft to the local police and apply to the nearest embassy or consulate for an emergency travel document."},
	{"How do I undo the last commit in version control?", "To undo the most recent commit but keep its changes in the working tree, reset the branch to the previous commit with a soft reset."},
	{"Which vaccines does a puppy need in its first year?", "Puppies are vaccinated against distemper, parvovirus and hepatitis from eight weeks on, with boosters until the sixteenth week and again after a year."},
	{"When was the first transatlantic telegraph cable laid?", "The first telegraph cable across the Atlantic was completed in August 1858 between Ireland and Newfoundland, and failed after three weeks."},
	{"How long may a tenant be late with the rent?", "Under the lease, rent that is not paid within five days of the due date is late, and the landlord may charge the tenant a fee or give notice."},
	{"What causes turbulence around an aircraft wing?", "When air flows over a wing at a high angle of attack, the boundary layer separates from the surface and breaks into eddies, which is felt as turbulence."},
	{"How do bees find their way back to the hive?", "Honey bees navigate home to their hive by the position of the sun, the polarisation of the sky's light and landmarks that they have learned."},
	{"What is the treatment for a mild ankle sprain?", "A mild sprain of the ankle is treated with rest, ice, a compression bandage and elevation, followed by gentle exercises after a few days."},
	{"How can I make my sourdough rise more?", "If the sourdough does not rise enough, feed the starter until it doubles within six hours and let the dough ferment longer in a warm place."},
	{"Who may vote in a general election?", "Every citizen who has reached the age of eighteen and is on the electoral register has the right to vote in general elections."},
	{"Why does the printer print blank pages?", "Blank pages come out of the printer when the cartridge is empty, its protective tape was not removed or the print head is clogged."},
	{"What did medieval guilds do for their members?", "Guilds of the Middle Ages regulated a craft: they trained apprentices, set prices and quality, and supported their members in sickness and old age."},
	{"How does a heat pump warm a house in winter?", "A heat pump takes heat from the outside air or the ground, raises its temperature by compressing a refrigerant and gives it off to the rooms of the house."},
	{"How are goals decided when the ball hits the post in football?", "In football a goal is scored only if the whole ball passes over the goal line between the posts; a ball that bounces off the post stays in play."},
}

// calibration is measured once, when it is first needed.
type calibration struct {
	mu    sync.Mutex
	known bool
	retry time.Time // after a failure
	scale scale
}

// retryCalibration spares a provider that is down one more call a question.
const retryCalibration = time.Minute

// scaleOf measures the model by the probes: one call of 32 short texts in the life of the service. While the model is
// down, plainScale. Passages that were found by words alone need none.
func (s *Service) scaleOf(ctx context.Context, found []store.Passage) scale {
	if !slices.ContainsFunc(found, func(p store.Passage) bool { return p.Vector != nil }) {
		return plainScale
	}
	c := &s.calibration
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known {
		return c.scale
	}
	if time.Now().Before(c.retry) {
		return plainScale
	}
	measured, err := s.calibrate(ctx)
	if err != nil && ctx.Err() != nil {
		return plainScale // the asker left: that says nothing about the provider
	}
	if err != nil {
		c.retry = time.Now().Add(retryCalibration)
		s.cfg.Logger.WarnContext(ctx, "embedding model not calibrated, refusals by all-MiniLM-L6-v2's scale", "model", s.cfg.EmbedModel, "error", err)
		return plainScale
	}
	c.scale, c.known = measured, true
	s.cfg.Logger.InfoContext(ctx, "embedding model calibrated", "model", s.cfg.EmbedModel, "mean", measured.mean, "deviation", measured.deviation, "together", measured.together)
	return measured
}

func (s *Service) calibrate(ctx context.Context) (scale, error) {
	var texts []string
	for _, p := range probes {
		texts = append(texts, s.cfg.QueryPrefix+p.question)
	}
	for _, p := range probes {
		texts = append(texts, p.passage)
	}
	if err := s.embedBudget.Wait(ctx, true); err != nil {
		return scale{}, err
	}
	got, err := s.models.Embed(ctx, workersai.EmbedRequest{Model: s.cfg.EmbedModel, Texts: texts, Pooling: s.cfg.Pooling, TruncateInputs: true})
	if err != nil {
		s.obey(ctx, s.embedBudget, err)
		return scale{}, err
	}
	return scaleFrom(got.Vectors)
}

// scaleFrom takes the vectors of the probes' questions, then of their passages.
func scaleFrom(vectors [][]float32) (sc scale, err error) {
	n, mean, squares := len(probes), 0.0, 0.0
	if len(vectors) != 2*n {
		return sc, fmt.Errorf("%d vectors for %d texts: %w", len(vectors), 2*n, workersai.ErrBadReply)
	}
	for i := range n {
		for j := range n {
			c := cosineOf(vectors[i], vectors[n+j])
			if i == j {
				sc.together += c / float64(n)
			} else {
				mean += c / float64(n*(n-1))
				squares += c * c / float64(n*(n-1))
			}
		}
	}
	sc.mean, sc.deviation = mean, math.Sqrt(math.Max(0, squares-mean*mean))
	return sc, nil
}

func cosineOf(a, b []float32) float64 {
	var dot, aa, bb float64
	for i := range a {
		x, y := float64(a[i]), float64(b[i])
		dot, aa, bb = dot+x*y, aa+x*x, bb+y*y
	}
	return dot / math.Sqrt(math.Max(aa*bb, 1e-12))
}
