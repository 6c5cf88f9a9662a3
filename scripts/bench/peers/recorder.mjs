// What the programs of all Node peers share; recorder.py is the same for Python.
import fs from "node:fs";

const PAD = "x".repeat(56);
const now = () => (performance.timeOrigin + performance.now()) / 1000;
const cpu = () => { const used = process.cpuUsage(); return (used.user + used.system) / 1e6; };
const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, Math.max(0, seconds * 1000)));
export const payload = (n) => ({ n, t: now(), pad: PAD });
export const say = (facts) => process.stdout.write(JSON.stringify(facts) + "\n");

// Enqueue as `spec` says; `open` gives a client {single(payload), many(payloads)}.
export async function produce(spec, open) {
  const clients = [];
  for (let i = 0; i < (spec.conns ?? 1); i++) clients.push(await open());
  const first = spec.first ?? 0, seconds = spec.seconds ?? 5, used = cpu(), began = now();
  say({ began });
  let n = 0;
  if (spec.mode === "single") {
    const end = began + seconds;
    let next = first;
    await Promise.all(clients.map(async (client) => {
      while (now() < end) { await client.single(payload(next++)); n++; }
    }));
  } else if (spec.mode === "bulk") {
    for (; n < spec.jobs; n += Math.min(spec.batch, spec.jobs - n)) await clients[0].many(some(first + n, Math.min(spec.batch, spec.jobs - n)));
  } else if (spec.mode === "paced") {
    for (const count = Math.floor(seconds / spec.every); n < count; n++) {
      await pause(began + n * spec.every - now());
      await clients[0].single(payload(first + n));
    }
  } else {
    for (let at; (at = now()) < began + seconds; n += spec.batch) {
      if (spec.rate && n > (at - began) * spec.rate) await pause(n / spec.rate - (at - began));
      await clients[0].many(some(first + n, spec.batch));
    }
  }
  say({ n, began, seconds: now() - began, cpu: cpu() - used });
}

const some = (first, count) => Array.from({ length: count }, (_, i) => payload(first + i));

// A worker's memory of every handler start: three doubles each (n, started at, enqueued at).
export class Recorder {
  constructor(spec) {
    this.out = spec.out;
    this.failEvery = spec.fail_every ?? 0;
    this.rows = new Float64Array(3 << 16);
    this.length = 0;
    this.failed = new Set();
  }

  ran(n, t) {
    if (this.length === this.rows.length) {
      const larger = new Float64Array(this.rows.length * 2);
      larger.set(this.rows);
      this.rows = larger;
    }
    this.rows[this.length++] = n;
    this.rows[this.length++] = now();
    this.rows[this.length++] = t;
    if (this.failEvery && n % this.failEvery === 0 && !this.failed.has(n)) {
      this.failed.add(n);
      throw new Error(`job ${n} fails once`);
    }
  }

  ready() {
    this.used = cpu();
    say({ ready: true });
    let told = -1;
    this.timer = setInterval(() => {
      if (told !== this.length) say({ ran: (told = this.length) / 3 });
    }, 50);
  }

  save() {
    clearInterval(this.timer);
    fs.writeFileSync(this.out, Buffer.from(this.rows.buffer, 0, this.length * 8));
    say({ saved: this.length / 3, cpu: cpu() - this.used });
  }
}

export const untilTold = () => new Promise((resolve) => process.on("SIGTERM", resolve));

export async function main({ setup, produce, work }) {
  const [command, url, text] = process.argv.slice(2), spec = JSON.parse(text);
  if (command === "setup") await setup(url);
  else if (command === "produce") await produce(url, spec);
  else await work(url, spec, new Recorder(spec));
  process.exit(0);
}
