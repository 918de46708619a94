import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { CallGuard } from './call-guard.js';

/** Has a stream read no more than its client takes of the answers, and ends the connection of one that takes nothing. */
export function keepPace(
  call: ServerDuplexStream<object, object>,
  guard: Pick<CallGuard, 'endIfUnread'>,
  writeTimeoutMs: number,
): void {
  const write = call.write.bind(call) as (answer: object) => boolean;
  let timer: NodeJS.Timeout | undefined;
  const taken = () => {
    clearInterval(timer);
    timer = undefined;
  };
  call.on('drain', () => {
    taken();
    call.resume();
  });
  call.on('cancelled', taken);
  call.write = (answer: object) => {
    const hasRoom = write(answer);
    if (!hasRoom) {
      const since = performance.now();
      call.pause();
      timer ??= setInterval(() => guard.endIfUnread(call.getPeer(), since), writeTimeoutMs);
    }
    return hasRoom;
  };
}
