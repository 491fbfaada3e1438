# Serves a Whisper model with faster-whisper, in the shape of OpenAI's transcription API: POST /v1/audio/transcriptions and
# /v1/audio/translations, verbose_json with words. Nothing is fetched from a network. After start.py and server.py.
import io, re, select, socket, types

# faster-whisper imports the hub's client for weights named by their hub name. Ours are a folder: an empty module will do.
sys.modules["huggingface_hub"] = types.ModuleType("huggingface_hub")

import av, numpy
from faster_whisper import WhisperModel

RATE = 16000  # samples a second, what Whisper hears
MAX_SECONDS = 4 * 3600
model = WhisperModel(cfg["model"], device="cpu", compute_type="int8", cpu_threads=cfg["threads"], local_files_only=True)
turn = threading.Lock()  # a transcription uses all threads


class BadRequest(Exception):
    pass


def decode(data):
    """Any container and codec that FFmpeg reads, as one channel of 32-bit floats."""
    parts, total = [], 0
    try:
        with av.open(io.BytesIO(data), mode="r", metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise BadRequest("the file has no audio")
            resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
            for frame in container.decode(audio=0):
                for out in resampler.resample(frame):
                    parts.append(out.to_ndarray().reshape(-1))
                    total += parts[-1].size
                if total > MAX_SECONDS * RATE:
                    raise BadRequest(f"the audio is longer than {MAX_SECONDS // 3600} hours: send it in parts")
            for out in resampler.resample(None):
                parts.append(out.to_ndarray().reshape(-1))
    except av.error.FFmpegError as e:
        if not parts:
            raise BadRequest(f"the audio cannot be read: {e}")
        # a file cut off at its end: what could be read is transcribed
    if not sum(p.size for p in parts):
        raise BadRequest("the file has no audio")
    return numpy.concatenate(parts).astype(numpy.float32) / 32768.0


def transcribe(form, task, gone):
    audio = decode(form["file"])
    language = form.get("language", b"").decode() or None
    if not model.model.is_multilingual and (task == "translate" or language not in (None, "en")):
        raise BadRequest("this model hears English only: leave out the language and do not ask for a translation")
    if language is not None and language not in model.supported_languages:
        raise BadRequest(f"the language {language} is not one of the model's")
    segments, info = model.transcribe(
        audio,
        language=language,
        task=task,
        beam_size=5,
        word_timestamps=True,
        condition_on_previous_text=False,  # a small model repeats itself otherwise
        vad_filter=form.get("vad_filter", b"") == b"true",
        initial_prompt=form.get("prompt", b"").decode() or None,
    )
    out = {"task": task, "language": info.language, "language_probability": info.language_probability,
           "duration": info.duration, "duration_after_vad": info.duration_after_vad, "segments": [], "words": []}
    for s in segments:
        if gone():
            return None
        words = [{"word": w.word, "start": round(float(w.start), 2), "end": round(float(w.end), 2)} for w in s.words or []]
        out["words"] += words
        out["segments"].append({"id": s.id, "start": round(s.start, 2), "end": round(s.end, 2), "text": s.text, "temperature": s.temperature,
                                "avg_logprob": s.avg_logprob, "compression_ratio": s.compression_ratio,
                                "no_speech_prob": s.no_speech_prob, "words": words})
    out["text"] = "".join(s["text"] for s in out["segments"]).strip()
    return out


def parse_form(content_type, body):
    """The fields of multipart/form-data, as bytes."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if not boundary:
        raise BadRequest("send multipart/form-data")
    fields = {}
    for part in body.split(b"--" + boundary[1].encode())[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = re.search(rb'[; ]name="([^"]*)"', head)
        if name:
            fields[name[1].decode()] = value.removesuffix(b"\r\n")
    if "file" not in fields:
        raise BadRequest("the form has no file")
    return fields


class Handler(JSONHandler):
    def do_GET(self):
        self.reply(200, {"status": "ok"})

    def gone(self):
        """Whether the caller has left: its connection can be read, and nothing is there."""
        readable, _, _ = select.select([self.connection], [], [], 0)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)

    def do_POST(self):
        tasks = {"/v1/audio/transcriptions": "transcribe", "/v1/audio/translations": "translate"}
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path not in tasks:
            return self.reply(404, {"error": {"message": "no such route"}})
        try:
            form = parse_form(self.headers.get("Content-Type", ""), body)
            with turn:
                if self.gone():
                    return
                out = transcribe(form, tasks[self.path], self.gone)
            if out is not None:
                self.reply(200, out)
        except (BadRequest, UnicodeDecodeError) as e:
            self.reply(400, {"error": {"message": str(e), "type": "invalid_request_error"}})
        except (BrokenPipeError, ConnectionResetError):
            pass
        except Exception as e:
            self.reply(500, {"error": {"message": f"{type(e).__name__}: {e}"}})


serve(Handler)
