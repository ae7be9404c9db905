/** Names under which programs write files that are not whole yet: they are renamed when they are. */
const PARTIAL = /(?:^|[/\\])[.~]|\.(?:tmp|temp|part|partial|filepart|crdownload|writing|swp)$/i

/** Whether a file is passed over until it is renamed. */
export function isPartial(path: string): boolean {
  return PARTIAL.test(path.slice(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1))
}

/** The n-th name of a file where the first is taken: `reads.csv`, `reads~2.csv`. */
export function numbered(path: string, n: number): string {
  if (n === 1) return path
  const cut = Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1
  const name = path.slice(cut)
  const extension = /(?!^)(?:\.[^.]{1,10})?(?:\.gz)?$/i.exec(name)?.[0] ?? ''
  return `${path.slice(0, cut)}${name.slice(0, name.length - extension.length)}~${n}${extension}`
}
