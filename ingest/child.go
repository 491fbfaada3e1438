package ingest

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// What a child may use. Parsers of hostile input hang and swell, and only a process can be stopped.
const (
	// maxChildMemory is beyond what the child has mapped at its start; pure Go parsers get by with it.
	maxChildMemory = 1 << 30
	// maxChildCPUSeconds per document ends a busy child whose parent is gone; before that the parent's clock decides.
	maxChildCPUSeconds = 60
	// maxChildThreads keeps the collector of one child from taking all cores.
	maxChildThreads = 2
	// freeAfterBytes is the size of a source after which a child gives its memory back at once.
	freeAfterBytes = 1 << 20
)

// RunExtractor is the child's loop: it reads documents from r and writes their texts to w until r ends, as it does when the
// parent ends, however that came. It limits the memory and processor time of this process, so call it from a program's
// main and for nothing else.
func RunExtractor(r io.Reader, w io.Writer) error { return serveExtractor(r, w, Extract) }

func serveExtractor(r io.Reader, w io.Writer, extract func(string, []byte) (Extracted, error)) error {
	if err := limitMemory(); err != nil {
		return fmt.Errorf("limit the extractor's memory: %w", err)
	}
	in := bufio.NewReader(r)
	for {
		mediaType, source, err := readRequest(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a document: %w", err)
		}
		if err := limitCPU(); err != nil {
			return fmt.Errorf("limit the extractor's processor time: %w", err)
		}
		var a answer
		var refused *ExtractError
		if a.Extracted, err = extract(mediaType, source); errors.As(err, &refused) {
			a.Refused = refused
		} else if err != nil {
			return err
		}
		if err := writeAnswer(w, a); err != nil {
			return fmt.Errorf("write a text: %w", err)
		}
		if len(source) > freeAfterBytes {
			source, a = nil, answer{}
			debug.FreeOSMemory()
		}
	}
}

// limitMemory bounds the address space: what is mapped now, much of which Go only reserves, and maxChildMemory.
func limitMemory() error {
	runtime.GOMAXPROCS(min(maxChildThreads, runtime.GOMAXPROCS(0)))
	debug.SetMemoryLimit(maxChildMemory * 3 / 4) // collect harder before giving up
	statm, err := os.ReadFile("/proc/self/statm")
	if errors.Is(err, os.ErrNotExist) {
		return nil // not Linux: only the collector's limit holds
	}
	if err != nil {
		return err
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		return fmt.Errorf("read /proc/self/statm: %w", err)
	}
	return lower(unix.RLIMIT_AS, pages*uint64(os.Getpagesize())+maxChildMemory)
}

// limitCPU gives the next document its time on top of what is used.
func limitCPU() error {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		return err
	}
	return lower(unix.RLIMIT_CPU, uint64(used.Utime.Sec+used.Stime.Sec)+maxChildCPUSeconds)
}

// lower sets a soft limit, unless the hard limit is lower already.
func lower(resource int, limit uint64) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(resource, &now); err != nil {
		return err
	}
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: min(limit, now.Max), Max: now.Max})
}

// answer is what the child sends, in gob: a text, or why there is none.
type answer struct {
	Extracted Extracted
	Refused   *ExtractError
}

// maxAnswerBytes leaves room for the longest text and as much again for its blocks.
const maxAnswerBytes = 2 * maxExtractedBytes

var errAnswerTooLarge = errors.New("the extractor's answer is too large")

// A request is the length of the media type in 4 bytes and of the source in 8, big endian, then both.
func writeRequest(w io.Writer, mediaType string, source []byte) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(mediaType)))
	head = append(binary.BigEndian.AppendUint64(head, uint64(len(source))), mediaType...)
	if _, err := w.Write(head); err != nil {
		return err
	}
	_, err := w.Write(source)
	return err
}

func readRequest(r io.Reader) (mediaType string, source []byte, err error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", nil, err
	}
	name := make([]byte, binary.BigEndian.Uint32(head[:4]))
	if _, err := io.ReadFull(r, name); err != nil {
		return "", nil, io.ErrUnexpectedEOF
	}
	source = make([]byte, binary.BigEndian.Uint64(head[4:]))
	if _, err := io.ReadFull(r, source); err != nil {
		return "", nil, io.ErrUnexpectedEOF
	}
	return string(name), source, nil
}

// An answer is its length in 8 bytes, big endian, then gob.
func writeAnswer(w io.Writer, a answer) error {
	var body bytes.Buffer
	body.Write(make([]byte, 8))
	if err := gob.NewEncoder(&body).Encode(a); err != nil {
		return err
	}
	binary.BigEndian.PutUint64(body.Bytes(), uint64(body.Len()-8))
	_, err := w.Write(body.Bytes())
	return err
}

func readAnswer(r io.Reader) (answer, error) {
	var a answer
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return a, err
	}
	size := binary.BigEndian.Uint64(head[:])
	if size > maxAnswerBytes {
		return a, errAnswerTooLarge
	}
	err := gob.NewDecoder(io.LimitReader(r, int64(size))).Decode(&a)
	return a, err
}
