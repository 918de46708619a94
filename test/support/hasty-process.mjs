// A process that answers the first message before it has read it, and never reads on.
import { readSync, writeSync } from 'node:fs';
import { writeFrame } from '../../dist/protocol/frames/frame-writer.js';

readSync(3, new Uint8Array(1));
for (const piece of writeFrame({ id: 1, answer: { value: 'hasty' } }, [0, 0, 0])) writeSync(4, piece);
setInterval(() => undefined, 60_000);
