import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { PAGE } from './page-text.js';
import { STYLE } from './style.js';

/** A file of the page. */
export interface Asset {
  readonly type: string;
  readonly text: string;
}

const require = createRequire(import.meta.url);
const JAVASCRIPT = 'text/javascript; charset=utf-8';
const CSS = 'text/css; charset=utf-8';
/** The modules that run in the browser. */
const MODULES = [
  ...['app', 'charts', 'elements', 'lists', 'model-page', 'overview', 'pictures', 'replica-card', 'server', 'tables'],
];

const ofPackage = (file: string) => () => readFileSync(require.resolve(`uplot/dist/${file}`), 'utf8');
const ofPage = (name: string) => () => readFileSync(new URL(`page/${name}.js`, import.meta.url), 'utf8');

const SOURCES: Readonly<Record<string, { readonly type: string; readonly read: () => string }>> = {
  '': { type: 'text/html; charset=utf-8', read: () => PAGE },
  'style.css': { type: CSS, read: () => STYLE },
  'uplot.css': { type: CSS, read: ofPackage('uPlot.min.css') },
  'uplot.js': { type: JAVASCRIPT, read: ofPackage('uPlot.iife.min.js') },
  ...Object.fromEntries(MODULES.map((name) => [`${name}.js`, { type: JAVASCRIPT, read: ofPage(name) }])),
};

const read = new Map<string, Asset>();

/** Returns a file of the page by its name, which is empty for the page itself; undefined if there is none. */
export function assetOf(name: string): Asset | undefined {
  const known = read.get(name);
  if (known !== undefined) return known;
  const source = Object.hasOwn(SOURCES, name) ? SOURCES[name] : undefined;
  if (source === undefined) return undefined;
  const asset = { type: source.type, text: source.read() };
  read.set(name, asset);
  return asset;
}

/** Names of all files of the page. */
export const ASSET_NAMES: readonly string[] = Object.keys(SOURCES);
