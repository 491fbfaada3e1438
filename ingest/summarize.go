package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/footnote-rag/footnote/store"
	"github.com/footnote-rag/footnote/workersai"
)

// CodeNoChatModel is the code of ExtractError for documents whose chunks are to be summarized where no chat model is set.
const CodeNoChatModel = "no_chat_model"

// summaryQueue is the queue of documents whose chunks are summarized: that takes seconds a chunk on a small machine, and other
// collections do not wait for them.
const summaryQueue = "summary"

const (
	// turnChunks is how many chunks a document has summarized before the next document's turn. One document at a time, because
	// an engine keeps the evaluation of the prompt's beginning, which a document's chunks have in common.
	turnChunks = 16

	// maxAnswerTokens of the model's; a sentence has half as many.
	maxAnswerTokens = 80
)

// summarizer asks the chat model for a sentence about each chunk.
type summarizer struct {
	cfg   Config
	calls *asker
	turn  chan struct{} // held by the document that asks
}

func newSummarizer(cfg Config) *summarizer {
	calls := newAsker(cfg, store.ChatBudget, cfg.ChatPerMinute)
	calls.patient = true
	return &summarizer{cfg: cfg, calls: calls, turn: make(chan struct{}, 1)}
}

// checkSummaries refuses what a server without a chat model cannot do.
func (s *Service) checkSummaries(c store.Chunking) error {
	if c.Context == store.ContextSummary && s.cfg.ChatModel == "" {
		return fmt.Errorf("%w: the collection's context is %s, for which a chat model writes a sentence about each chunk, and this server has none: set FOOTNOTE_CHAT_MODEL, or use a collection with the context %s",
			ErrInvalidInput, store.ContextSummary, store.ContextHeadings)
	}
	return nil
}

// summarize gives the chunks their summaries, where the collection asks for them. A document of one chunk needs none. What was
// written for the same chunk in the same surroundings is taken over, and what is written is kept until the document is complete.
func (s *Service) summarize(ctx context.Context, work store.Work, e Extracted, chunks []store.Chunk) error {
	if work.Collection.Chunking.Context != store.ContextSummary || len(chunks) < 2 {
		return nil
	}
	if s.cfg.ChatModel == "" {
		return extractErrorf(CodeNoChatModel, "the collection's chunks are summarized by a chat model, and this server has none. Set FOOTNOTE_CHAT_MODEL, and put the document again")
	}
	known, err := s.knownSummaries(ctx, work.Document.ID)
	if err != nil {
		return err
	}
	var left []*store.Chunk
	for i := range chunks {
		c := &chunks[i]
		input := summaryInput(work.Collection.TranslateTo, e.Title, chunks, i)
		c.SummaryInput = input[:]
		text, ok := known[input]
		if c.Summary = text; !ok {
			left = append(left, c)
		}
	}
	p := newSituations(e, chunks, work.Collection, s.cfg.ContextWindow)
	if err := s.summaries.write(ctx, work, p, left, s.cfg.Store); err != nil {
		return err
	}
	for i := range chunks {
		chunks[i].Tokens = WordPiece().Count(EmbedText(chunks[i]))
	}
	return nil
}

// summaryInput is the hash of what a summary is about: the chunk and what it stands beside, not the whole document. Nor the
// model: another one's sentence is as true.
func summaryInput(language, title string, chunks []store.Chunk, i int) [sha256.Size]byte {
	textAt := func(i int) string {
		if i < 0 || i >= len(chunks) {
			return ""
		}
		return chunks[i].Text
	}
	all, err := json.Marshal([]any{"summary", language, title, chunks[i].Heading, textAt(i - 1), chunks[i].Text, textAt(i + 1)})
	if err != nil {
		return [sha256.Size]byte{} // strings are always JSON
	}
	return sha256.Sum256(all)
}

// knownSummaries are those of the visible version, and those that were written for this one before a restart.
func (s *Service) knownSummaries(ctx context.Context, documentID string) (map[[sha256.Size]byte]string, error) {
	staged, err := s.cfg.Store.StagedResults(ctx, documentID)
	if err != nil {
		return nil, err
	}
	visible, err := s.cfg.Store.Summaries(ctx, documentID)
	if err != nil {
		return nil, err
	}
	known := make(map[[sha256.Size]byte]string, len(staged)+len(visible))
	for _, v := range visible {
		if len(v.Input) == sha256.Size {
			known[[sha256.Size]byte(v.Input)] = v.Text
		}
	}
	for input, r := range staged {
		var text string
		if json.Unmarshal(r, &text) == nil { // else another model's answer
			known[input] = text
		}
	}
	return known, nil
}

// write fills the chunks' summaries, some at a time in turn with other documents.
func (z *summarizer) write(ctx context.Context, work store.Work, p *situations, chunks []*store.Chunk, st *store.Store) error {
	var without failures
	for len(chunks) > 0 {
		n := min(len(chunks), turnChunks)
		if err := z.writeSome(ctx, work.Document, p, chunks[:n], st, &without); err != nil {
			return err
		}
		chunks = chunks[n:]
	}
	if without.n > 0 {
		z.cfg.Logger.WarnContext(ctx, "the chat model refuses some chunks, they go without a summary", "document", work.Document.ID, "chunks", without.n, "error", without.last)
	}
	return nil
}

// failures counts the chunks that the model refuses.
type failures struct {
	mu   sync.Mutex
	n    int
	last error
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n, f.last = f.n+1, err
}

// writeSome fills the summaries of some chunks when it is the document's turn, if that is still wanted then.
func (z *summarizer) writeSome(ctx context.Context, d store.Document, p *situations, chunks []*store.Chunk, st *store.Store, without *failures) error {
	select {
	case z.turn <- struct{}{}:
		defer func() { <-z.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := st.Wanted(ctx, d.ID, d.Revision); err != nil {
		return err
	}
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(z.cfg.Concurrency)
	for _, c := range chunks {
		calls.Go(func() error {
			text, err := z.situate(ctx, p, c.Ordinal)
			if refusal(ctx, err) {
				without.add(err)
				err = nil
			}
			if err != nil {
				return fmt.Errorf("summarize chunk %d: %w", c.Ordinal, err)
			}
			c.Summary = text
			result, err := json.Marshal(text)
			if err != nil {
				return err
			}
			return st.StageResult(ctx, d.ID, [sha256.Size]byte(c.SummaryInput), storable(result))
		})
	}
	return calls.Wait()
}

// refusal tells errors that one chunk meets again and again: it goes without a summary.
func refusal(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (errors.Is(err, workersai.ErrInvalidInput) || errors.Is(err, workersai.ErrContextExceeded) || errors.Is(err, workersai.ErrBadReply))
}

// situate asks about one chunk; with less of the document where the model says that it is too much.
func (z *summarizer) situate(ctx context.Context, p *situations, ordinal int) (string, error) {
	answer, err := z.ask(ctx, p.messages(ordinal))
	if errors.Is(err, workersai.ErrContextExceeded) {
		answer, err = z.ask(ctx, p.short(ordinal))
	}
	if err != nil {
		return "", err
	}
	return readSummary(answer, p.chunks[ordinal].Text, p.tokens), nil
}

func (z *summarizer) ask(ctx context.Context, messages []workersai.Message) (answer string, err error) {
	zero := 0.0
	err = z.calls.ask(ctx, func(ctx context.Context) error {
		r, err := z.cfg.Models.Chat(ctx, workersai.ChatRequest{Model: z.cfg.ChatModel, Messages: messages, MaxTokens: maxAnswerTokens, Temperature: &zero})
		if err == nil {
			answer = r.Text
		}
		return err
	})
	return answer, err
}
