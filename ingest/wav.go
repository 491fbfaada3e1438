package ingest

import (
	"bytes"
	"encoding/binary"
	"time"
)

// recording is a stretch of a recording that is transcribed by one call.
type recording struct {
	audio  []byte        // a file of its own
	offset time.Duration // from the whole recording's start
	length time.Duration // 0 if not known
}

const (
	// maxRecording is the longest stretch of a WAV file that is sent at once: a minute is transcribed well within the time of
	// one call, and a crash costs no more of them than are under way.
	maxRecording = time.Minute
	// quietSearch is how far before its end a stretch is searched for a pause to be cut at, in steps of quietStep.
	quietSearch = 15 * time.Second
	quietStep   = 100 * time.Millisecond
	// maxSpeechBytes is what speech services take in one call (OpenAI documents 25 MB; Cloudflare names no limit).
	maxSpeechBytes = 25 << 20
)

// wav is what is known of a WAV file.
type wav struct {
	format    []byte // the body of its chunk "fmt "
	data      []byte // the samples
	frame     int    // bytes of one sample of all channels
	rate      int    // frames a second
	sixteen   bool   // samples are 16-bit numbers
	bytesPerS int
}

// parseWAV reads the header of a WAV file; false for anything that it does not understand.
func parseWAV(source []byte) (w wav, ok bool) {
	if len(source) < 12 || string(source[:4]) != "RIFF" || string(source[8:12]) != "WAVE" {
		return w, false
	}
	for rest := source[12:]; len(rest) >= 8; {
		name, size := string(rest[:4]), int64(binary.LittleEndian.Uint32(rest[4:8]))
		rest = rest[8:]
		if name == "data" { // a program that wrote into a pipe did not know the size
			w.data = rest[:min(size, int64(len(rest)))]
			if size == 0 || size == 1<<32-1 {
				w.data = rest
			}
			return w, w.describe()
		}
		if size > int64(len(rest)) {
			return w, false
		}
		if name == "fmt " {
			w.format = rest[:size]
		}
		rest = rest[min(size+size%2, int64(len(rest))):]
	}
	return w, false
}

// Numbers of WAV's sample formats; the last is described by a longer header.
const wavPCM, wavFloat, wavExtensible = 1, 3, 0xfffe

// describe reads the format; false where samples cannot be told apart, as in compressed ones.
func (w *wav) describe() bool {
	if len(w.format) < 16 {
		return false
	}
	le := binary.LittleEndian
	kind, bits := le.Uint16(w.format), le.Uint16(w.format[14:])
	w.rate, w.frame = int(le.Uint32(w.format[4:])), int(le.Uint16(w.format[12:]))
	w.bytesPerS = w.rate * w.frame
	w.sixteen = bits == 16 && kind != wavFloat && w.frame%2 == 0
	return (kind == wavPCM || kind == wavFloat || kind == wavExtensible) && w.rate > 0 && w.rate <= 1<<20 && w.frame > 0 && w.frame <= 1<<10
}

// recordings cuts a WAV file, at pauses where there are some; others are one stretch.
func recordings(source []byte) []recording {
	w, ok := parseWAV(source)
	if !ok {
		return []recording{{audio: source}}
	}
	var all []recording
	for at := 0; at < len(w.data); {
		end := w.cut(at)
		all = append(all, recording{audio: w.file(w.data[at:end]), offset: w.time(at), length: w.time(end - at)})
		at = end
	}
	return all
}

func (w wav) time(size int) time.Duration {
	return time.Duration(float64(size) / float64(w.bytesPerS) * float64(time.Second))
}

// size of a duration, in whole frames.
func (w wav) size(d time.Duration) int {
	return int(d.Seconds()*float64(w.rate)) * w.frame
}

// cut is where the stretch that begins at a byte ends: at the quietest moment of its last seconds.
func (w wav) cut(at int) int {
	longest := max(min(w.size(maxRecording), maxSpeechBytes/w.frame*w.frame), w.frame)
	if len(w.data)-at <= longest {
		return len(w.data)
	}
	end := at + longest
	step := w.size(quietStep)
	if !w.sixteen || step == 0 {
		return end
	}
	best, quietest := end, int64(-1)
	for from := end - step; from > at && end-from <= w.size(quietSearch); from -= step {
		if loud := loudness(w.data[from : from+step]); quietest < 0 || loud < quietest {
			best, quietest = from+step/w.frame/2*w.frame, loud
		}
	}
	return best
}

// loudness sums the sizes of 16-bit samples.
func loudness(samples []byte) (sum int64) {
	for i := 0; i+1 < len(samples); i += 2 {
		v := int64(int16(binary.LittleEndian.Uint16(samples[i:])))
		sum += max(v, -v)
	}
	return sum
}

// file makes a WAV file of some of the samples.
func (w wav) file(samples []byte) []byte {
	var b bytes.Buffer
	put := func(v int) { b.Write(binary.LittleEndian.AppendUint32(nil, uint32(v))) }
	b.Grow(64 + len(w.format) + len(samples))
	b.WriteString("RIFF")
	put(4 + 8 + len(w.format) + len(w.format)%2 + 8 + len(samples))
	b.WriteString("WAVEfmt ")
	put(len(w.format))
	b.Write(w.format)
	if len(w.format)%2 == 1 {
		b.WriteByte(0)
	}
	b.WriteString("data")
	put(len(samples))
	b.Write(samples)
	return b.Bytes()
}
