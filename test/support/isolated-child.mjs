// A process with an engine of isolated replicas, which ends in the way that it is told: `exit`, `uncaught`, `sigterm`,
// `sigkill`, or `destroy`. Its arguments: that way, the folder of models, a mark in the environment of the replicas, and
// the milliseconds until the end. Meanwhile one replica is in a run that does not end, and others answer.
import { createEngine } from '../../dist/index.js';

const [how, models, mark, milliseconds] = process.argv.slice(2);
const engineStarts = createEngine({
  models,
  replicas: 2,
  express: false,
  isolation: { kind: 'process', env: { ISOLATED_CHILD: mark } },
});
setTimeout(end, Number(milliseconds));
const engine = await engineStarts;
const ignore = () => undefined;
const vector = { x: { dims: [1], data: Float32Array.of(1) } };
const row = { x: { dims: [1, 4], data: new Float32Array(4) } };
engine.run('endless', vector).catch(ignore);
for (;;) await engine.run('double', row).catch(() => new Promise(setImmediate));

function end() {
  if (how === 'exit') process.exit(0);
  if (how === 'sigterm') process.kill(process.pid, 'SIGTERM');
  if (how === 'sigkill') process.kill(process.pid, 'SIGKILL');
  if (how === 'destroy') engineStarts.then((running) => running.destroy()).then(() => process.exit(0));
  if (how === 'uncaught') {
    setImmediate(() => {
      throw new Error('an error that nobody catches');
    });
  }
}
