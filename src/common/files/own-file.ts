/**
 * Returns the URL of a file of this package.
 *
 * Not `new URL(path, import.meta.url)`: a bundler takes that for an asset, and copies the file without its imports, or
 * puts a call in its place that fails.
 *
 * @param base `import.meta.url` of the module that the path is relative to.
 */
export function ownFile(path: string, base: string): URL {
  return new URL(path, base);
}
