import { readFile } from 'node:fs/promises'
import { register } from 'node:module'
import ts from 'typescript'

/**
 * `node --import ./test/typescript.mjs file.ts` runs TypeScript from the sources: for tests that start processes of
 * their own, which must not depend on an earlier build. Types are not checked.
 */
if (!import.meta.url.includes('?hooks')) register(`${import.meta.url}?hooks`)

export async function resolve(specifier, context, next) {
  try {
    return await next(specifier, context)
  } catch (err) {
    if (err.code !== 'ERR_MODULE_NOT_FOUND' || !/^(\.|file:).*\.js$/.test(specifier)) throw err
    return next(specifier.replace(/\.js$/, '.ts'), context)
  }
}

export async function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context)
  const source = await readFile(new URL(url), 'utf8')
  const { outputText } = ts.transpileModule(source, {
    fileName: url,
    compilerOptions: { target: ts.ScriptTarget.ES2023, module: ts.ModuleKind.ESNext, inlineSourceMap: true, verbatimModuleSyntax: true },
  })
  return { format: 'module', source: outputText, shortCircuit: true }
}
