import { workerData } from 'node:worker_threads';
import { openSession } from './session.mjs';

const infer = await openSession(workerData);

export default async ({ data }) => infer(data);
