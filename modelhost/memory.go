package modelhost

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/footnote-rag/footnote/workersai"
)

// Unloader is an engine of this machine that can give its memory back. A host with Config.MemoryBudget counts these.
type Unloader interface {
	Engine
	// Memory is how many bytes the engine takes while it runs: measured if it has run, else estimated.
	Memory() int64
	// Running tells whether it holds its memory now: it may have died, or stopped by itself.
	Running() bool
	// Unload stops the engine and waits for its end. It does nothing while somebody holds the engine.
	Unload()
}

// drainAfter is how long a request waits for an engine to fall idle by itself. Then the one unused longest takes no
// more requests until it has made room: else steady traffic on one model would keep all others out.
const drainAfter = 2 * time.Second

// memory keeps the engines together within a budget.
type memory struct {
	limit   int64
	metrics *metrics
	loading chan struct{} // held by the request that makes room: one at a time, in order of arrival

	mu      sync.Mutex
	engines []*boundEngine
	changed chan struct{} // closed and replaced when an engine has lost a user
	clock   int64         // counts uses
}

// boundEngine is an engine that has to find room before it starts.
type boundEngine struct {
	Unloader
	name string
	m    *memory

	// Under memory.mu:
	taken    int64 // bytes reserved; 0: not loaded
	users    int
	used     int64 // clock of the last use
	draining bool  // takes no new users: it is to make room
}

func newMemory(limit int64, m *metrics) *memory {
	return &memory{limit: limit, metrics: m, loading: make(chan struct{}, 1), changed: make(chan struct{})}
}

// bind puts an engine under the budget; engines that cannot be unloaded are not ours to count.
func (m *memory) bind(name string, e Engine) Engine {
	u, ok := e.(Unloader)
	if !ok || m.limit <= 0 {
		return e
	}
	b := &boundEngine{Unloader: u, name: name, m: m}
	m.engines = append(m.engines, b)
	return b
}

// Acquire waits until the engine is there, or there is room for it, and starts it.
func (b *boundEngine) Acquire(ctx context.Context) (string, func(), error) {
	if !b.join() {
		if err := b.load(ctx); err != nil {
			return "", nil, err
		}
	}
	url, release, err := b.Unloader.Acquire(ctx)
	if err != nil {
		b.leave()
		return "", nil, err
	}
	b.m.measured(b)
	return url, sync.OnceFunc(func() { release(); b.leave() }), nil
}

// join counts a user if the engine is loaded.
func (b *boundEngine) join() bool {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	if b.draining || b.users == 0 && !(b.taken > 0 && b.Running()) {
		return false
	}
	b.use()
	return true
}

// use counts a user; memory.mu is held.
func (b *boundEngine) use() {
	b.users++
	b.m.clock++
	b.used = b.m.clock
}

func (b *boundEngine) leave() {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.users--
	b.m.signal()
}

// signal wakes who waits for room; m.mu is held.
func (m *memory) signal() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// load reserves the engine's memory, unloading others until there is room.
func (b *boundEngine) load(ctx context.Context) error {
	m := b.m
	select {
	case m.loading <- struct{}{}:
		defer func() { m.undrain(); <-m.loading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if b.join() { // another request has loaded it meanwhile
		return nil
	}
	need := max(b.Memory(), 1)
	if need > m.limit {
		return &failure{status: http.StatusNotFound, code: workersai.CodeModelNotFound, native: "Ai: No such model " + b.name + " or task",
			message: fmt.Sprintf("%s takes %s of memory, the budget of this host is %s: raise it", b.name, mebibytes(need), mebibytes(m.limit))}
	}
	patience := time.NewTimer(drainAfter)
	defer patience.Stop()
	for {
		wait, victim := m.room(b, need)
		switch {
		case victim != nil:
			m.unload(victim)
			continue
		case wait == nil:
			return nil
		}
		select {
		case <-wait:
		case <-patience.C:
			m.drain(b)
			patience.Reset(drainAfter)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20) }

// room reserves need for b if there is room. Else it names the idle engine that was used longest ago, or if all are
// busy what to wait for.
func (m *memory) room(b *boundEngine, need int64) (wait <-chan struct{}, victim *boundEngine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	free := m.limit
	for _, e := range m.engines {
		if e.users == 0 && e.taken > 0 && !e.Running() { // it stopped by itself
			m.forget(e)
		}
		if e == b {
			continue
		}
		free -= e.taken
		if e.taken > 0 && e.users == 0 && (victim == nil || e.used < victim.used) {
			victim = e
		}
	}
	switch {
	case free >= need:
		b.taken, b.draining = need, false
		b.use()
		m.metrics.loads.WithLabelValues(b.name).Inc()
		return nil, nil
	case victim != nil:
		victim.draining = true // nobody joins while it stops
		return nil, victim
	}
	return m.changed, nil
}

// forget takes an engine as not loaded; m.mu is held.
func (m *memory) forget(e *boundEngine) {
	e.taken, e.draining = 0, false
	m.metrics.unloads.WithLabelValues(e.name).Inc()
}

func (m *memory) unload(e *boundEngine) {
	e.Unload()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(e)
}

// drain lets the engine that was used longest ago take no more users.
func (m *memory) drain(b *boundEngine) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var victim *boundEngine
	for _, e := range m.engines {
		if e != b && e.taken > 0 && (victim == nil || e.used < victim.used) {
			victim = e
		}
	}
	if victim != nil {
		victim.draining = true
	}
}

// undrain: whoever waited for room has it, or has left.
func (m *memory) undrain() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range m.engines {
		e.draining = false
	}
}

// measured corrects what a running engine is taken to need.
func (m *memory) measured(b *boundEngine) {
	n := b.Memory()
	m.mu.Lock()
	defer m.mu.Unlock()
	b.taken = max(b.taken, n)
}

var (
	memoryBudget   = prometheus.NewDesc("footnote_model_memory_budget_bytes", "What the engines of this machine may take together; 0: no limit.", nil, nil)
	memoryResident = prometheus.NewDesc("footnote_model_engine_resident_bytes", "What an engine takes, measured or estimated; 0: not loaded.", []string{"engine"}, nil)
)

// Describe implements prometheus.Collector.
func (m *memory) Describe(out chan<- *prometheus.Desc) {
	out <- memoryBudget
	out <- memoryResident
}

// Collect implements prometheus.Collector.
func (m *memory) Collect(out chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	out <- prometheus.MustNewConstMetric(memoryBudget, prometheus.GaugeValue, float64(m.limit))
	for _, e := range m.engines {
		taken := e.taken
		if e.users == 0 && !e.Running() {
			taken = 0
		}
		out <- prometheus.MustNewConstMetric(memoryResident, prometheus.GaugeValue, float64(taken), e.name)
	}
}
