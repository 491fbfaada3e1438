package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// progressBar shows how far a known number of steps is, with rate and time left, on a terminal; elsewhere nothing.
type progressBar struct {
	mu          sync.Mutex
	w           *os.File
	label       string
	done, total int
	start, last time.Time
	shown       bool
}

// barEvery limits how often the bar is drawn.
const barEvery = 100 * time.Millisecond

func newProgressBar(w *os.File, label string, total int) *progressBar {
	b := &progressBar{label: label, total: total, start: time.Now()}
	if isTerminal(w) {
		b.w = w
	}
	return b
}

func (b *progressBar) add(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	if b.w == nil || time.Since(b.last) < barEvery && b.done < b.total {
		return
	}
	b.last = time.Now()
	b.shown = true
	fmt.Fprintf(b.w, "\r%s\x1b[K", b.line())
}

// line is the bar as text: label, bar, count, rate, time left.
func (b *progressBar) line() string {
	const width = 30
	filled := 0
	if b.total > 0 {
		filled = width * b.done / b.total
	}
	rate := float64(b.done) / max(time.Since(b.start).Seconds(), 0.001)
	left := "–"
	if rate > 0 {
		left = time.Duration(float64(b.total-b.done) / rate * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%s [%s%s] %d/%d  %.1f/s  %s left", b.label, strings.Repeat("█", filled), strings.Repeat("·", width-filled), b.done, b.total, rate, left)
}

// clear makes room for a line of text; the bar is drawn again below it.
func (b *progressBar) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

func (b *progressBar) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shown {
		fmt.Fprintln(b.w)
	}
}
