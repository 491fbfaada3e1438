package modelhost

import (
	"fmt"
	"sync"
	"time"
)

// Limits are requests a minute, by task. A task that is absent, or 0, has no limit. Each account has its own.
type Limits map[string]int

// CloudflareLimits are Cloudflare's documented rate limits of October 2026.
func CloudflareLimits() Limits {
	return Limits{TaskTextGeneration: 300, TaskEmbeddings: 3000, TaskReranking: 2000, TaskSpeech: 720, TaskTranslation: 720, TaskImage: 720}
}

func (l Limits) validate() error {
	for task, n := range l {
		if _, ok := taskNames[task]; !ok {
			return fmt.Errorf("limits: task %q is not one of %v", task, sortedTasks())
		}
		if n < 0 {
			return fmt.Errorf("limits: %d requests a minute of %s", n, task)
		}
	}
	return nil
}

// limiter counts by token bucket: a minute's worth at once, then one after another as the bucket fills.
type limiter struct {
	limits Limits
	now    func() time.Time

	mu      sync.Mutex
	buckets map[bucketKey]*bucket
}

type bucketKey struct{ account, task string }

type bucket struct {
	left float64 // requests
	at   time.Time
}

// maxBuckets bounds the memory that made-up account names can take; full buckets are forgotten first.
const maxBuckets = 10_000

func newLimiter(limits Limits, now func() time.Time) *limiter {
	return &limiter{limits: limits, now: now, buckets: map[bucketKey]*bucket{}}
}

// take counts one request, or says with a *failure when the next may come.
func (l *limiter) take(account, task string) error {
	perMinute := float64(l.limits[task])
	if perMinute == 0 {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now, key := l.now(), bucketKey{account, task}
	b := l.buckets[key]
	if b == nil {
		l.makeRoom(now)
		b = &bucket{left: perMinute, at: now}
		l.buckets[key] = b
	}
	b.left = min(perMinute, b.left+now.Sub(b.at).Minutes()*perMinute)
	b.at = now
	if b.left < 1 {
		wait := time.Duration((1 - b.left) / perMinute * float64(time.Minute))
		return tooBusy(fmt.Sprintf("over %d requests a minute of %s: send fewer, or wait as Retry-After says", l.limits[task], taskNames[task]), wait)
	}
	b.left--
	return nil
}

// makeRoom forgets the buckets that a minute has filled again: a new one is the same. l.mu is held.
func (l *limiter) makeRoom(now time.Time) {
	if len(l.buckets) < maxBuckets {
		return
	}
	for k, b := range l.buckets {
		if now.Sub(b.at) >= time.Minute {
			delete(l.buckets, k)
		}
	}
}
