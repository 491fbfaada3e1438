package modelhost

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// gate bounds the work one engine has: so many run, so many wait, the rest is told to come back.
type gate struct {
	name    string
	slots   chan struct{}
	queue   int64
	waiting atomic.Int64
}

func newGate(name string, slots, queue int) *gate {
	return &gate{name: name, slots: make(chan struct{}, slots), queue: int64(queue)}
}

// enter waits for a slot. rejectIfBusy does not wait. The error is a *failure or the context's.
func (g *gate) enter(ctx context.Context, rejectIfBusy bool) (leave func(), err error) {
	leave = func() { <-g.slots }
	select {
	case g.slots <- struct{}{}:
		return leave, nil
	default:
	}
	if rejectIfBusy {
		return nil, busyNow(g.name)
	}
	if n := g.waiting.Add(1); n > g.queue {
		g.waiting.Add(-1)
		return nil, queueFull(g.name, int(g.queue))
	}
	defer g.waiting.Add(-1)
	select {
	case g.slots <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// busyNow refuses a request that asked not to wait.
func busyNow(name string) *failure {
	return tooBusy(name+" is busy and the request asked not to wait: try again", time.Second)
}

func queueFull(name string, queue int) *failure {
	return tooBusy(fmt.Sprintf("%d requests already wait for %s: try again later", queue, name), time.Second)
}
