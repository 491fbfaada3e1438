// A question that is spoken: recorded here, transcribed by the server, then asked as a typed one is.

import { $, button, complain, notice } from "./dom.js";
import { call } from "./server.js";

const longest = 60000; // ms of one recording

const refusals = {
  NotAllowedError: "The microphone is not allowed for this page. Allow it beside the address, then press Speak again.",
  NotFoundError: "No microphone was found. Connect one, or type the question.",
  NotReadableError: "The microphone is in use by another program. Close that, then press Speak again.",
};

/** Adds the button. ask is called with what was understood. */
export function takeSpeech(ask) {
  let recorder = null; // while recording
  const speak = button("quiet speak", "Speak", () => (recorder ? recorder.stop() : start()));
  const tell = (label, title, pressed) => {
    speak.textContent = label;
    speak.title = title;
    speak.setAttribute("aria-pressed", String(pressed));
  };
  const rest = () => {
    recorder = null;
    speak.disabled = false;
    tell("Speak", "Ask by voice", false);
  };

  async function start() {
    notice("");
    if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) {
      notice("Browsers give pages a microphone only over https and on localhost. Open this page there, or type the question.");
      return;
    }
    speak.disabled = true;
    try {
      record(await navigator.mediaDevices.getUserMedia({ audio: true }));
    } catch (problem) {
      rest();
      notice(refusals[problem.name] || `The microphone cannot be used: ${problem.message}`);
    }
  }

  function record(stream) {
    const pieces = [];
    recorder = new MediaRecorder(stream);
    recorder.addEventListener("dataavailable", (e) => pieces.push(e.data));
    const timer = setTimeout(() => recorder?.stop(), longest);
    recorder.addEventListener("stop", () => {
      clearTimeout(timer);
      stream.getTracks().forEach((t) => t.stop()); // the browser's sign that it listens goes out
      send(new Blob(pieces, { type: recorder.mimeType }));
    });
    recorder.start();
    speak.disabled = false;
    tell("Done", "Stop, and ask what was said", true);
  }

  async function send(audio) {
    speak.disabled = true;
    tell("Listening…", "What was said is being understood", false);
    try {
      const { text } = await (await call("/v1/transcribe", { method: "POST", body: audio, headers: { "Content-Type": audio.type } })).json();
      ask(text);
    } catch (problem) {
      complain(problem);
    } finally {
      rest();
    }
  }

  rest();
  $("tools").append(speak);
}
