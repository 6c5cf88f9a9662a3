// pg-boss's program for the benchmark. Its settings and why: ../README.md.
import { PgBoss } from "pg-boss";
import * as recorder from "./recorder.mjs";

const QUEUES = ["default", "busy"];

function open(url, options) {
  const boss = new PgBoss({ connectionString: url, ...options });
  boss.on("error", (error) => console.error(String(error)));
  return boss;
}

async function setup(url) {
  const boss = open(url, { supervise: false, schedule: false });
  await boss.start();
  for (const queue of QUEUES) await boss.createQueue(queue, { retryLimit: 3, retryDelay: 1, notify: true });
  await boss.stop({ graceful: false });
}

async function produce(url, spec) {
  const queue = spec.queue ?? "default";
  const boss = open(url, { supervise: false, schedule: false, migrate: false, max: spec.conns ?? 1 });
  await boss.start();
  await recorder.produce(spec, async () => ({
    single: (payload) => boss.send(queue, payload),
    many: (payloads) => boss.insert(queue, payloads.map((data) => ({ data }))),
  }));
}

async function work(url, spec, record) {
  const boss = open(url, { migrate: false, max: 10, useListenNotify: true });
  await boss.start();
  const handler = async (jobs) => { for (const job of jobs) record.ran(job.data.n, job.data.t); };
  const options = { batchSize: 500, localConcurrency: 4, pollingIntervalSeconds: 0.5,
    notifyPollingIntervalSeconds: 0.5, burstWhenBatchFull: true };
  for (const queue of spec.queues) await boss.work(queue, options, handler);
  record.ready();
  await recorder.untilTold();
  await boss.stop({ graceful: true, timeout: 5000 });
  record.save();
}

await recorder.main({ setup, produce, work });
