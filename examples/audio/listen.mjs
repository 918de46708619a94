import { startEngine } from './engine.mjs';

const engine = await startEngine();
const piece = (loudness) => Float32Array.from({ length: 512 }, (_, at) => loudness * Math.sin(at / 4));
const loudness = [0, 0, 0.6, 0.6, 0.6, 0, 0, 0, 0, 0];
for (const each of loudness) {
  const speech = await engine.run('listen', piece(each), { shardKey: 'caller 1' });
  console.log(each === 0 ? 'silence' : 'speech ', '█'.repeat(Math.round(40 * speech)));
}
await engine.run('listen', null, { shardKey: 'caller 1', method: 'end' });
await engine.close();
