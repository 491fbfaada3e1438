package ingest

import "time"

// Numbers of the queue that tests reckon with.
const (
	MaxBadReplies = maxBadReplies
	StageChunks   = stageChunks
)

// ShortenPauses makes the service look after the provider every d when it does not say how long to wait. Call it before Start.
func (s *Service) ShortenPauses(d time.Duration) {
	p := pauses{first: d, longest: d, mend: d, quota: d}
	s.batches.gate.pauses, s.speech.gate.pauses, s.translator.gate.pauses, s.summaries.calls.gate.pauses = p, p, p, p
}

// Pending is the number of documents whose texts wait for a request.
func (s *Service) Pending() int {
	s.batches.mu.Lock()
	defer s.batches.mu.Unlock()
	return len(s.batches.pending)
}

// ReadSummary makes a sentence of a model's answer about an excerpt.
func ReadSummary(answer, excerpt string, tokens int) string {
	return readSummary(answer, excerpt, tokens)
}

// ProcessLock is the advisory lock that a living service holds.
func (s *Service) ProcessLock() (class, object int32) { return lockProcesses, processKey(s.id) }

// ShortenLease makes others take this service for dead when it has said nothing for d. Call it before Start.
func (s *Service) ShortenLease(d time.Duration) { s.lease = d }

// Recording is a stretch of a recording.
type Recording struct{ Audio []byte }

// Recordings cuts a recording.
func Recordings(source []byte) []Recording {
	var all []Recording
	for _, r := range recordings(source) {
		all = append(all, Recording{r.audio})
	}
	return all
}
