// Starts an engine whose model is compiled in the background, and says when it has two sessions. Then it ends as it is
// told: `exit` when a line comes on stdin, without closing the engine; `wait` never.
// Arguments: path of a model, the directory of the weight store, how to end.
import { createEngine } from '../../dist/index.js';

const [, , path, directory, how] = process.argv;
const engine = await createEngine({ models: { model: path }, replicas: 2, weightStore: { directory } });
await engine.models.load('model', { replicas: 'all' });
process.stdout.write('loaded\n');
process.stdin.once('data', () => {
  if (how === 'exit') process.exit(3);
});
