// The GSM 03.38 basic characters that a usage text may need; its extension characters count twice and are left out.
const BASIC = /[^A-Za-z0-9 \n@£$¥èéùìòÇØøÅåΔΦΓΛΩΠΨΣΘΞÆæßÉ!"#¤%&'()*+,\-./:;<=>?¡ÄÖÑÜ§¿äöñüà_]/g
const COMBINING = /[\u0300-\u036f]/g
/** Longest text that is one message and one fee. */
export const SMS_LENGTH = 160

/** The text in GSM-7 basic characters: accents that GSM lacks are dropped, anything else becomes a question mark. */
export function toGsm(text: string): string {
  let out = ''
  for (const character of text) {
    if (character.replace(BASIC, '') !== '') {
      out += character
      continue
    }
    const plain = character.normalize('NFKD').replace(COMBINING, '').replace(/[‘’`]/g, '\'').replace(/[–—]/g, '-')
    out += plain.replace(BASIC, '?')
  }
  return out
}

/** Shortens GSM-7 text to at most `length` characters, with two dots where something was left out. */
export function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, Math.max(0, length - 2)).trimEnd()}..`
}
