import { hasMethods } from '../../common/checks.js';
import { type Clock, systemClock } from '../../common/clock.js';
import { cloneError, InfermuxError, messageOf, show } from '../../common/errors.js';
import { importFile } from '../../common/files/import-file.js';
import type { RequestRouter } from '../../contracts/request-router.js';
import type { ResolvedDeploymentOptions } from './deployment-options.js';
import { isModule, isSameRouter, type ResolvedRouterModule } from './router-module.js';

/** A module that takes longer, in an `await` at its top, holds up every change of deployments meanwhile. */
const IMPORT_TIMEOUT_MS = 30_000;

/** Imports the modules of routers. */
export class RouterLoader {
  readonly #clock: Clock;
  /** Ends the imports that go on. */
  readonly #endings = new Set<(error: InfermuxError) => void>();
  #closed: InfermuxError | undefined;

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /**
   * Imports the module of the router, if the options name one.
   *
   * @param where names the deployment in messages.
   * @param before the options in force: their router stays the same when the new ones name the same.
   * @throws InfermuxError `INVALID_ARGUMENT` when it cannot be imported, takes too long, or exports no router; the error of
   *   {@link close}.
   */
  async load(
    where: string,
    options: ResolvedDeploymentOptions,
    before?: ResolvedDeploymentOptions,
  ): Promise<ResolvedDeploymentOptions> {
    const { router } = options;
    if (!isModule(router)) return options;
    if (before !== undefined && isSameRouter(before.router, router)) return { ...options, router: before.router };
    const imported = await this.#bounded(where, router);
    return Object.freeze({ ...options, router: { ...router, router: imported } });
  }

  /** Waits for no import any more. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    for (const end of this.#endings) end(error);
  }

  #bounded(where: string, router: ResolvedRouterModule): Promise<RequestRouter> {
    if (this.#closed !== undefined) return Promise.reject(cloneError(this.#closed));
    return new Promise((resolve, reject) => {
      const late = `${where}: router ${router.module} was not imported within ${IMPORT_TIMEOUT_MS} ms`;
      const cancel = this.#clock.schedule(() => reject(new InfermuxError('INVALID_ARGUMENT', late)), IMPORT_TIMEOUT_MS);
      this.#endings.add(reject);
      const end = () => {
        cancel();
        this.#endings.delete(reject);
      };
      importRouter(where, router).then(resolve, reject).then(end, end);
    });
  }
}

async function importRouter(where: string, { module, options }: ResolvedRouterModule): Promise<RequestRouter> {
  const failed = (what: string, cause: unknown) =>
    new InfermuxError('INVALID_ARGUMENT', `${where}: router ${module} ${what}: ${messageOf(cause)}`, { cause });
  let exported: unknown;
  try {
    exported = (await importFile(module))['default'];
  } catch (cause) {
    throw failed('could not be imported', cause);
  }
  let router: unknown;
  try {
    router = await made(exported, options);
  } catch (cause) {
    throw failed('could not be made', cause);
  }
  if (hasMethods('', ['chooseReplicas'])(router) === undefined) return router as RequestRouter;
  const message = `${where}: the default export of ${module} must be a router, a class of routers, or a function that returns one: an object with chooseReplicas; got ${show(router)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function made(exported: unknown, options: unknown): unknown {
  if (typeof exported !== 'function') return exported;
  return isClass(exported) ? Reflect.construct(exported, [options]) : exported(options);
}

/** Whether the function is to be called with `new`: a class, also one of an older kind. */
function isClass(exported: { readonly prototype?: { readonly chooseReplicas?: unknown } }): boolean {
  if (/^class\b/.test(Function.prototype.toString.call(exported))) return true;
  return typeof exported.prototype?.chooseReplicas === 'function';
}
