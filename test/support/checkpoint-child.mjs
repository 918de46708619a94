// Runs an engine with a checkpoint, and makes changes until it is killed. Prints each change before it is made, and
// again when it is made: node checkpoint-child.mjs <models> <file>
import { createEngine } from '../../dist/index.js';

const [models, file] = process.argv.slice(2);
const engine = await createEngine({ models, replicas: 1, checkpoint: { file } });
const say = (line) => process.stdout.write(`${line}\n`);

for (let change = 1; ; change += 1) {
  say(`begin ${change}`);
  await engine.endpoints.set('e', { traffic: { 'times-1': 1 }, shadow: { 'times-2': 1 / change } });
  if (change % 10 === 0) await engine.deployments.update('default', { maxQueuedRequests: change });
  say(`made ${change}`);
}
