// Records the microphone, or decodes a sound file, in the page; sends WAV to the kernel.
const MAX_MINUTES = 10, MAX_BYTES = 8e6; // of a file; of a message
const READ_BY_THE_KERNEL = /\.(wav|flac|ogg|mp3)$/i;

// The first seconds of anything that the browser plays, as 16-bit mono WAV.
async function toWav(blob, rate, seconds) {
  const context = new OfflineAudioContext(1, 1, rate);
  const sound = await context.decodeAudioData(await blob.arrayBuffer());
  const channels = Array.from({ length: sound.numberOfChannels }, (_, c) => sound.getChannelData(c));
  const n = Math.min(sound.length, seconds * rate);
  const samples = Int16Array.from({ length: n }, (_, i) => {
    const mean = channels.reduce((sum, channel) => sum + channel[i], 0) / channels.length;
    return 32767 * Math.max(-1, Math.min(1, mean));
  });
  const [riff, wave, fmt, data] = [0x46464952, 0x45564157, 0x20746d66, 0x61746164];
  const format = [fmt, 16, 0x10001, rate, 2 * rate, 0x100002]; // PCM, one channel, 16 bits
  const head = Uint32Array.of(riff, 36 + 2 * n, wave, ...format, data, 2 * n);
  return new Blob([head, samples]).arrayBuffer();
}

// Minutes of a file by its header; NaN where the browser cannot tell.
async function minutesOf(file) {
  const audio = new Audio(URL.createObjectURL(file));
  await new Promise((done) => {
    audio.onloadedmetadata = audio.onerror = done;
    setTimeout(done, 3000);
  });
  URL.revokeObjectURL(audio.src);
  return audio.duration / 60;
}

function refusal(error) {
  const reasons = {
    NotFoundError: "There is no microphone: plug one in",
    NotAllowedError: "The browser did not allow the microphone: allow it for this page",
    TypeError: "The browser allows microphones on localhost and https pages alone",
  };
  const reason = reasons[error.name] ?? `The microphone cannot be used (${error.message})`;
  return `${reason}, or choose a sound file.`;
}

function render({ model, el }) {
  el.classList.add("clepdg");
  el.innerHTML = `<button type="button">● Record</button>
    <meter min="-60" max="0" low="-40" high="-3" value="-60" aria-label="level in dB"></meter>
    <input type="file" accept="audio/*,video/*,.flac,.m4a" aria-label="sound file">
    <span role="status"></span>`;
  const [button, meter, input, status] = el.children;
  const rate = model.get("rate"), seconds = model.get("seconds");
  let recorder = null;

  const say = (text, role = "status") => {
    status.textContent = text;
    status.setAttribute("role", role);
  };
  const send = (name, bytes) => {
    model.send({ name }, undefined, [bytes]);
    say(`${name || "The recording"} is in the kernel.`);
  };

  async function record() {
    const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
    const mimeType = "audio/webm;codecs=pcm"; // lossless, where there is that
    recorder = new MediaRecorder(stream, MediaRecorder.isTypeSupported(mimeType) ? { mimeType } : {});
    const pieces = [], began = performance.now(), wave = new Float32Array(2048);
    const context = new AudioContext(), analyser = context.createAnalyser();
    context.createMediaStreamSource(stream).connect(analyser);
    const timer = setInterval(() => {
      const passed = (performance.now() - began) / 1000;
      button.textContent = `■ Stop (${passed.toFixed(0)} of ${seconds} s)`;
      analyser.getFloatTimeDomainData(wave);
      meter.value = 20 * Math.log10(Math.hypot(...wave) / Math.sqrt(wave.length) + 1e-6);
      if (passed >= seconds) recorder?.stop();
    }, 100);
    recorder.ondataavailable = (event) => pieces.push(event.data);
    recorder.onstop = async () => {
      recorder = null;
      clearInterval(timer);
      context.close();
      stream.getTracks().forEach((track) => track.stop());
      button.textContent = "● Record";
      meter.value = -60;
      const empty = () => say("The recording is empty: record for a second or more.", "alert");
      await toWav(new Blob(pieces), rate, seconds).then((bytes) => send("", bytes), empty);
    };
    recorder.start();
    say("Recording");
  }

  async function upload(file) {
    say(`Reading ${file.name}`);
    const minutes = await minutesOf(file), small = file.size < MAX_BYTES;
    if (minutes > MAX_MINUTES) {
      const length = `${file.name} is ${minutes.toFixed(0)} minutes long`;
      return say(`${length}: cut it to ${MAX_MINUTES}; ${seconds} s are used.`, "alert");
    }
    const asIs = small && READ_BY_THE_KERNEL.test(file.name);
    const bytes = await (asIs ? file.arrayBuffer() : toWav(file, rate, seconds)).catch(
      () => small && file.arrayBuffer(), // the kernel says what is wrong with it
    );
    if (bytes) send(file.name, bytes);
    else say(`${file.name} cannot be decoded here: convert it to WAV or MP3.`, "alert");
  }

  button.onclick = () =>
    recorder ? recorder.stop() : record().catch((error) => say(refusal(error), "alert"));
  input.onchange = async () => {
    if (input.files.length) await upload(input.files[0]);
    input.value = ""; // so that the same file can be chosen again
  };
  return () => recorder?.stop();
}
export default { render };
