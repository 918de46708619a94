import { workerData } from 'node:worker_threads';
import { ThreadWorker } from 'poolifier';
import { openSession } from './session.mjs';

const infer = openSession(workerData);

export default new ThreadWorker(async ({ data }) => (await infer)(data), { maxInactiveTime: 60_000 });
