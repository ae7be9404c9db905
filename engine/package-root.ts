import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'

/**
 * Folder of the package, the one that holds package.json: the same from the sources and from `dist/`.
 * Files that are not compiled, such as migrations, are found from here.
 */
export function packageRoot(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'package.json'))) {
    const parent = dirname(folder)
    if (parent === folder) throw new Error(`no package.json above ${import.meta.dirname}`)
    folder = parent
  }
  return folder
}
