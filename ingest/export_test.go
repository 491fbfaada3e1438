package ingest

import "time"

// Numbers of the queue that tests reckon with.
const (
	MaxBadReplies = maxBadReplies
	StageChunks   = stageChunks
)

// ShortenPauses makes the service look after the provider every d when it does not say how long to wait. Call it before Start.
func (s *Service) ShortenPauses(d time.Duration) {
	s.batches.gate.pauses = pauses{first: d, longest: d, mend: d, quota: d}
}

// ProcessLock is the advisory lock that a living service holds.
func (s *Service) ProcessLock() (class, object int32) { return lockProcesses, processKey(s.id) }

// ShortenLease makes others take this service for dead when it has said nothing for d. Call it before Start.
func (s *Service) ShortenLease(d time.Duration) { s.lease = d }
