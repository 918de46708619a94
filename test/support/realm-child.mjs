// Loads realm-program.mjs, and with it the package, into a vm context, as test runners do, and prints what it returns.
// The classes of the context are not those of Node's modules. Its globals are those of a browser, as in jsdom: there is no
// structuredClone, and timers are numbers. Run it with --experimental-vm-modules. Arguments: those of the program.
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { createContext, SourceTextModule, SyntheticModule } from 'node:vm';

const browserTimer = () => 1;
const context = createContext({
  ...{ process, Buffer, URL, AbortController, AbortSignal, queueMicrotask },
  ...{ setTimeout: browserTimer, setInterval: browserTimer, clearTimeout: browserTimer },
});
const modules = new Map();

function load(url) {
  if (!modules.has(url)) modules.set(url, url.startsWith('file:') ? ownModule(url) : nodeModule(url));
  return modules.get(url);
}

function ownModule(url) {
  return new SourceTextModule(readFileSync(fileURLToPath(url), 'utf8'), {
    ...{ context, identifier: url },
    initializeImportMeta: (meta) => {
      meta.url = url;
    },
  });
}

async function nodeModule(name) {
  const exported = await import(name);
  const names = Object.keys(exported);
  return new SyntheticModule(
    names,
    function setAll() {
      for (const key of names) this.setExport(key, exported[key]);
    },
    { context },
  );
}

const program = load(new URL('realm-program.mjs', import.meta.url).href);
await program.link((specifier, { identifier }) =>
  load(specifier.startsWith('.') ? new URL(specifier, identifier).href : specifier),
);
await program.evaluate();
process.stdout.write(JSON.stringify(await program.namespace.run(...process.argv.slice(2))));
