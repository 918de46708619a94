import type { handleBidiStreamingCall, Server, ServerDuplexStream } from '@grpc/grpc-js';
import type { MethodDefinition, PackageDefinition } from '@grpc/proto-loader';
import { type Calls, endingError } from './calls.js';

const VERSIONS = ['v1', 'v1alpha'] as const;

/** A request has a name, and the answer repeats it. */
const MOST_REQUEST_BYTES = 4_096;

type Method = MethodDefinition<object, object>;
type Handler = handleBidiStreamingCall<object, object>;

/** The service as grpc-js takes it. */
interface Reflection {
  readonly ServerReflectionInfo: Method;
}
interface Loaded {
  readonly method: Method;
  readonly handler: Handler;
}

/**
 * Adds the service that tells clients which others there are. Few ask, and its package takes a sixth of a second to import
 * and to prepare: that is done when the first one asks.
 *
 * @param keepPace has a stream read no more than its client takes of the answers.
 * @see https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
 */
export function addReflection(
  server: Server,
  definitions: PackageDefinition,
  calls: Calls,
  keepPace: (call: ServerDuplexStream<object, object>) => void,
): void {
  let loading: Promise<void> | undefined;
  let loaded: readonly Loaded[] = [];
  const load = async () => {
    loaded = await loadReflection(definitions);
  };
  for (const [index, version] of VERSIONS.entries()) {
    const own = () => loaded[index] as Loaded;
    const method = {
      path: `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`,
      requestStream: true,
      responseStream: true,
      // A message is read when the handler listens, and so when all is loaded.
      requestDeserialize: (bytes: Buffer) => readRequest(own().method, bytes),
      responseSerialize: (value: object) => own().method.responseSerialize(value),
      requestSerialize: (value: object) => own().method.requestSerialize(value),
      responseDeserialize: (bytes: Buffer) => own().method.responseDeserialize(bytes),
    };
    const handler = calls.duplex<object, object>('ServerReflectionInfo', 'inference', (call) => {
      calls.opened(call, () => call.emit('error', endingError()));
      keepPace(call);
      loading ??= load();
      loading.then(
        () => own().handler(call),
        (error: unknown) => call.emit('error', error),
      );
    });
    server.addService({ ServerReflectionInfo: method }, { ServerReflectionInfo: handler });
  }
}

/** A request of the wrong form is one for nothing: the service says so in its answer. */
function readRequest(method: Method, bytes: Buffer): object {
  if (bytes.length > MOST_REQUEST_BYTES) return {};
  try {
    return method.requestDeserialize(bytes);
  } catch {
    return {};
  }
}

/** Returns the versions of the service, in their order. */
async function loadReflection(definitions: PackageDefinition): Promise<Loaded[]> {
  const { ReflectionService } = await import('@grpc/reflection');
  const loaded: Loaded[] = [];
  const taker = {
    addService(service: Reflection, handlers: { ServerReflectionInfo: Handler }) {
      loaded.push({ method: service.ServerReflectionInfo, handler: handlers.ServerReflectionInfo });
    },
  };
  new ReflectionService(definitions).addToServer(taker as unknown as Server);
  return loaded;
}
