import type { ServerWritableStream } from '@grpc/grpc-js';
import { refusal } from '../../open-inference/error-statuses.js';
import { INFERENCE_SERVICE } from '../../open-inference/grpc/service-definition.js';
import type { ServerParts } from '../server-parts.js';
import { readable, serviceErrorOf } from './calls.js';

interface HealthRequest {
  readonly service: string;
}

interface HealthAnswer {
  readonly status: 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN';
}

interface Watcher {
  tell(): void;
  end(): void;
}

/** How often the status is compared with the one that was told. */
const LOOK_MS = 200;

const SERVICES: readonly string[] = ['', INFERENCE_SERVICE];

/** Answers checks of health. The status of the server is that of its service. */
export class HealthCalls {
  readonly #parts: ServerParts;
  readonly #watchers = new Set<Watcher>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: ServerParts) {
    this.#parts = parts;
  }

  check({ service }: HealthRequest): HealthAnswer {
    if (SERVICES.includes(service)) return { status: this.#status };
    throw refusal(
      'not found',
      `no service ${JSON.stringify(service)}; there are: ${SERVICES.map((name) => JSON.stringify(name)).join(', ')}`,
    );
  }

  watch(call: ServerWritableStream<HealthRequest, HealthAnswer>): void {
    let service: string;
    try {
      ({ service } = readable(call.request));
    } catch (cause) {
      call.emit('error', serviceErrorOf(cause));
      return;
    }
    const isKnown = SERVICES.includes(service);
    let told: HealthAnswer['status'] | undefined;
    const tell = () => {
      const status = isKnown ? this.#status : 'SERVICE_UNKNOWN';
      if (status === told) return;
      told = status;
      call.write({ status });
    };
    tell();
    const watcher = { tell, end: () => call.end() };
    this.#watchers.add(watcher);
    call.on('cancelled', () => {
      this.#watchers.delete(watcher);
      call.end();
      if (this.#watchers.size === 0) this.#stopLooking();
    });
    this.#timer ??= setInterval(() => {
      for (const each of this.#watchers) each.tell();
    }, LOOK_MS);
  }

  /** Tells those who watch, and ends their calls: the server would wait for them. */
  close(): void {
    for (const { tell, end } of this.#watchers) {
      tell();
      end();
    }
    this.#watchers.clear();
    this.#stopLooking();
  }

  #stopLooking(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  get #status(): 'SERVING' | 'NOT_SERVING' {
    return this.#parts.isReady ? 'SERVING' : 'NOT_SERVING';
  }
}
