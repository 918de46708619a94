import { Socket } from 'node:net';
import { types } from 'node:util';
import { workerData } from 'node:worker_threads';
import type { Frame } from '../../protocol/frames/frame-format.js';
import { FrameSocket } from './frame-socket.js';
import type { FromSide, SideThreadData, ToSide } from './side-thread.js';

/** The program of {@link startSideThread}. */
const { files, port } = workerData as SideThreadData;
let messages: FrameSocket | undefined;

const end = (): void => void process.kill(process.pid, 'SIGKILL');
new Socket({ fd: files.life, readable: true, writable: false }).on('end', end).on('error', end).resume();

port.on('message', (told: ToSide) => {
  messages ??= new FrameSocket(files.messages, { received: hand, ended: end, failed });
  if (told === 'hand back') messages.handOver((rest) => port.postMessage({ rest } satisfies FromSide, [rest.buffer]));
  else if ('used' in told) messages.useAgain(told.used);
  else messages.readOn(told.rest);
});

function hand({ counts, message, aparts }: Frame): void {
  // The message may lie in a chunk of the socket.
  const frame = { counts, message: message?.slice(), aparts };
  const transfer = aparts.map(({ buffer }) => buffer).filter(types.isArrayBuffer);
  if (frame.message !== undefined) transfer.push(frame.message.buffer);
  port.postMessage({ frame } satisfies FromSide, transfer);
}

/** The process cannot go on without its messages: the first thread ends it, with this error. */
function failed(error: unknown): void {
  port.postMessage({ failed: error } satisfies FromSide);
}
