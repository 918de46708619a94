// Ends a process while all replicas are inside a native call.
// Arguments: directory with the models slow-a and slow-b, phase (run | load), ending, milliseconds into the phase.
// Prints one line of JSON: how the accepted requests were answered.
import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine } from '../../dist/index.js';

const [directory, phase, ending, delayMs] = process.argv.slice(2);
const MODELS = ['slow-a', 'slow-b'];

const loading = new Set();
const logger = {
  debug: (fields) => loading.add(fields.replica),
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const engine = await createEngine({ models: directory, replicas: 2, logger });
const feeds = { x: { dims: [1], data: Float32Array.of(2) } };

if (phase === 'run') await Promise.all(MODELS.map((model) => engine.run(model, feeds)));
loading.clear();

const answers = { ok: 0, codes: [] };
const requests = [...MODELS, ...MODELS].map((model) =>
  engine.run(model, feeds).then(
    () => {
      answers.ok += 1;
    },
    (error) => answers.codes.push(error.code),
  ),
);

const isEverywhere = () =>
  phase === 'load'
    ? loading.size === 2
    : engine.status().replicas.every(({ ongoing, models }) => ongoing > 0 && models.length > 0);
while (!isEverywhere()) await sleep(1);
await sleep(Number(delayMs));

const report = () => process.stdout.write(`${JSON.stringify(answers)}\n`);
switch (ending) {
  case 'close':
    await engine.close();
    await Promise.all(requests);
    report();
    break;
  case 'destroy':
    await engine.destroy();
    await Promise.all(requests);
    report();
    break;
  case 'exit':
    process.exit(7);
    break;
  case 'uncaught':
    setImmediate(() => {
      throw new Error('nobody catches this');
    });
    break;
  case 'sigterm':
    process.on('SIGTERM', () => process.exit(0));
    process.kill(process.pid, 'SIGTERM');
    break;
  case 'leave':
    // Only the requests keep the process up: it answers them and ends by itself.
    process.on('exit', report);
    break;
  default:
    throw new Error(`unknown ending ${ending}`);
}
