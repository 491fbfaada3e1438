package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/labstack/echo/v4"
	"golang.org/x/sync/errgroup"
)

// bulkPuts is how many lines of one bulk are being stored at a time. Replies keep the order of the lines.
const bulkPuts = 8

// bulkJob is one line on its way; reply is filled once.
type bulkJob struct {
	number  int
	line    []byte
	err     error // why the line could not be read
	release func()
	reply   chan itemResult
}

// putBulk streams NDJSON: a line in, a line out, while the body is still arriving. A bad line spoils only itself. Memory
// stays bounded because lines take their bytes from the upload budget and reading stops while replies are not read.
func (s *Server) putBulk(c echo.Context) error {
	if c.QueryParam("wait") != "" {
		return invalid("a bulk does not wait: poll GET /v1/documents?status=queued, or send single documents with ?wait=")
	}
	rc := http.NewResponseController(c.Response())
	if err := rc.EnableFullDuplex(); err != nil {
		return fmt.Errorf("stream a bulk: %w", err)
	}
	c.Response().Header().Set("Content-Type", ndjsonType)
	c.Response().WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancelCause(c.Request().Context())
	defer cancel(nil)
	jobs := make(chan *bulkJob, bulkPuts)
	var readers errgroup.Group
	readers.Go(func() error {
		defer close(jobs)
		return s.readBulk(ctx, c, jobs)
	})
	err := s.writeBulk(c, rc, jobs)
	cancel(err)
	for job := range jobs { // a writer that failed leaves jobs behind; each still gets its reply
		<-job.reply
	}
	return errors.Join(err, readers.Wait())
}

// readBulk sends a job for every line, in order, and stores up to bulkPuts lines at a time.
func (s *Server) readBulk(ctx context.Context, c echo.Context, jobs chan<- *bulkJob) error {
	var puts errgroup.Group
	puts.SetLimit(bulkPuts)
	defer func() { _ = puts.Wait() }() // its functions return no errors: each has its reply
	collection := c.QueryParam("collection")
	lines := bufio.NewReaderSize(c.Request().Body, 64<<10)
	for number := 1; ; number++ {
		line, err := readLine(lines, s.cfg.MaxDocumentBytes+documentOverheadBytes)
		if end := err == io.EOF && len(line) == 0; end || ctx.Err() != nil {
			return nil
		}
		last := err != nil && !errors.Is(err, errLineTooLong)
		if err == io.EOF {
			err = nil
		}
		if err == nil && len(bytes.TrimSpace(line)) == 0 {
			if last {
				return nil
			}
			continue
		}
		job := &bulkJob{number: number, line: line, err: err, reply: make(chan itemResult, 1)}
		if job.release, err = s.reserve(ctx, int64(len(line))); err != nil {
			job.err, job.release = errors.Join(job.err, err), func() {}
		}
		jobs <- job
		puts.Go(func() error {
			defer job.release()
			job.reply <- s.putLine(ctx, job, collection)
			return nil
		})
		if last {
			return nil
		}
	}
}

// errLineTooLong spoils one line of a bulk.
var errLineTooLong = errors.New("line is too long")

// readLine returns the next line without its end. A line over limit is skipped whole; its error is errLineTooLong.
func readLine(r *bufio.Reader, limit int64) (line []byte, err error) {
	tooLong := false
	for {
		piece, err := r.ReadSlice('\n')
		if tooLong = tooLong || int64(len(line)+len(piece)) > limit; tooLong {
			line = nil
		} else {
			line = append(line, piece...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if tooLong && err == nil {
			err = errLineTooLong
		}
		return line, err
	}
}

func (s *Server) putLine(ctx context.Context, job *bulkJob, collection string) itemResult {
	item := s.putLineDocument(ctx, job, collection)
	item.Line = job.number
	return item
}

func (s *Server) putLineDocument(ctx context.Context, job *bulkJob, collection string) itemResult {
	if errors.Is(job.err, errLineTooLong) {
		return itemOf("", putResult{}, bodyTooLarge("/v1/documents", s.cfg.MaxDocumentBytes))
	}
	if job.err != nil {
		return itemOf("", putResult{}, job.err)
	}
	var in documentInput
	if err := decodeStrict(job.line, &in); err != nil {
		return itemOf("", putResult{}, err)
	}
	doc, err := s.inputDocument(ctx, in, collection)
	if err != nil {
		return itemOf(in.URI, putResult{}, err)
	}
	r, err := s.put(ctx, doc, 0)
	return itemOf(doc.URI, r, err)
}

// writeBulk writes the replies in order and flushes whenever none is ready.
func (s *Server) writeBulk(c echo.Context, rc *http.ResponseController, jobs <-chan *bulkJob) error {
	out := json.NewEncoder(deadlineWriter{c.Response(), rc, s.cfg.WriteTimeout})
	for job := range jobs {
		if err := out.Encode(<-job.reply); err != nil {
			return fmt.Errorf("write a bulk's reply: %w", err)
		}
		if len(jobs) == 0 {
			if err := rc.Flush(); err != nil {
				return fmt.Errorf("write a bulk's reply: %w", err)
			}
		}
	}
	return nil
}
