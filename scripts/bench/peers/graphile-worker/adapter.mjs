// graphile-worker's program for the benchmark. Its settings and why: ../README.md.
import { Logger, makeWorkerUtils, run, runMigrations } from "graphile-worker";
import pg from "pg";
import * as recorder from "./recorder.mjs";

const logger = new Logger(() => (level, message) => { if (level === "error") console.error(message); });

async function produce(url, spec) {
  const task = spec.queue ?? "default";
  const pgPool = new pg.Pool({ connectionString: url, max: spec.conns ?? 1 });
  pgPool.on("error", () => {});
  const utils = await makeWorkerUtils({ pgPool, logger });
  await recorder.produce(spec, async () => ({
    single: (payload) => utils.addJob(task, payload),
    many: (payloads) => utils.addJobs(payloads.map((payload) => ({ identifier: task, payload }))),
  }));
}

async function work(url, spec, record) {
  const handler = async (payload) => record.ran(payload.n, payload.t);
  const runner = await run({
    logger,
    taskList: Object.fromEntries(spec.queues.map((name) => [name, handler])),
    noHandleSignals: true,
    preset: {
      worker: {
        connectionString: url,
        maxPoolSize: 10,
        concurrentJobs: 24,
        pollInterval: 1000,
        localQueue: { size: 2000 },
        completeJobBatchDelay: 0,
        failJobBatchDelay: 0,
      },
    },
  });
  record.ready();
  await recorder.untilTold();
  await runner.stop();
  record.save();
}

await recorder.main({ setup: (url) => runMigrations({ connectionString: url, logger }), produce, work });
