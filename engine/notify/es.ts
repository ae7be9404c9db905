import type { AlertWords, KindWords, Phrases } from './phrases.js'

const LONG = ['enero', 'febrero', 'marzo', 'abril', 'mayo', 'junio', 'julio', 'agosto', 'septiembre', 'octubre', 'noviembre', 'diciembre']

/** A limit on energy that was passed upwards. */
function above(per: string, when: (w: AlertWords) => string, short: (w: AlertWords) => string): KindWords {
  return {
    headline: (w) => `más de ${w.limit} ${per}`,
    undone: (w) => `no más de ${w.limit} ${per}`,
    claim: (w) => `${w.verb} más de ${w.limit} ${when(w)}`,
    short: (w) => `${w.verb} ${w.value} ${short(w)}, límite ${w.limit.split(' ')[0]}.`,
    shortUndone: (w) => `${w.verb} ${w.value} ${short(w)}, no más de su límite ${w.limit.split(' ')[0]}.`,
    limitPer: (w) => `${w.limit} ${per}`,
  }
}

function projected(cost: boolean): KindWords {
  const what = cost ? 'costar' : 'usar'
  return {
    headline: (w) => `en camino a más de ${w.limit} en este período de facturación`,
    undone: (w) => `ya no en camino a más de ${w.limit} en este período de facturación`,
    claim: (w) => `va en camino a ${what} más de ${w.limit} en el período de facturación ${w.inPeriod}`,
    short: (w) => `se esperan unos ${w.value} en el período ${w.sinceShort}, límite ${w.limit}.`,
    shortUndone: (w) => `se esperan unos ${w.value} en el período ${w.sinceShort}, no más de su límite ${w.limit}.`,
    limitPer: (w) => `${w.limit} por período de facturación`,
  }
}

const cost: KindWords = {
  headline: (w) => `más de ${w.limit} en un período de facturación`,
  undone: (w) => `no más de ${w.limit} en un período de facturación`,
  claim: (w) => `costó más de ${w.limit} en el período de facturación ${w.inPeriod}`,
  short: (w) => `${w.value} de electricidad ${w.sinceShort}, límite ${w.limit}.`,
  shortUndone: (w) => `${w.value} de electricidad ${w.sinceShort}, no más de su límite ${w.limit}.`,
  limitPer: (w) => `${w.limit} por período de facturación`,
}

/** Spanish, as it is written to members in the United States. */
export const es: Phrases = {
  tag: 'es-US',
  longDay: (year, month, day) => `${day} de ${LONG[month - 1]} de ${year}`,
  shortDay: (month, day) => `${day} ${LONG[month - 1].slice(0, 3)}`,
  clock: (hour, minute) => `${hour % 12 === 0 ? 12 : hour % 12}:${String(minute).padStart(2, '0')} ${hour < 12 ? 'AM' : 'PM'}`,
  onDay: (day) => `el ${day}`,
  fromTo: (from, to) => `de ${from} a ${to}`,
  since: (day) => `desde el ${day}`,
  inBillingPeriod: (fromTo) => `en el período de facturación ${fromTo}`,
  perDay: 'en un día',
  perBillingPeriod: 'en un período de facturación',
  verbs: {
    delivered: { verb: 'usó', noun: 'Usado' }, received: { verb: 'devolvió a la red', noun: 'Devuelto a la red' },
    net: { verb: 'usó, menos lo devuelto,', noun: 'Usado menos devuelto' },
  },
  kinds: {
    'hour-usage': above('en una hora', (w) => w.inHour, (w) => w.inHourShort),
    'day-usage': above('en un día', (w) => w.onDay, (w) => w.onDayShort),
    'period-usage': above('en un período de facturación', (w) => `en el período de facturación ${w.inPeriod}`, (w) => w.sinceShort),
    'period-cost': cost,
    'projected-usage': projected(false),
    'projected-cost': projected(true),
    demand: {
      headline: (w) => `demanda de más de ${w.limit}`,
      undone: (w) => `demanda no mayor de ${w.limit}`,
      claim: (w) => `llegó a una demanda de más de ${w.limit} en el período de facturación ${w.inPeriod}`,
      short: (w) => `demanda ${w.value}, límite ${w.limit}.`,
      shortUndone: (w) => `demanda ${w.value} ${w.sinceShort}, no mayor de su límite ${w.limit}.`,
      limitPer: (w) => `${w.limit} en cualquier momento`,
    },
    unusual: {
      headline: (w) => `uso fuera de lo común ${w.onDayShort}`,
      undone: (w) => `sin uso fuera de lo común ${w.onDayShort}`,
      claim: (w) => `${w.verb} ${w.value} ${w.onDay}; lo usual es ${w.usual}`,
      short: (w) => `${w.verb} ${w.value} ${w.onDayShort}, lo usual es ${w.usual}.`,
      shortUndone: (w) => `${w.verb} ${w.value} ${w.onDayShort}, no fuera de lo común.`,
      limitPer: (w) => w.limit,
    },
    'low-usage': {
      headline: (w) => `menos de ${w.limit} ${w.per}`,
      undone: (w) => `no menos de ${w.limit} ${w.per}`,
      claim: (w) => `${w.verb} menos de ${w.limit} ${w.when}`,
      short: (w) => `${w.verb} solo ${w.value} ${w.whenShort}, límite bajo ${w.limit}.`,
      shortUndone: (w) => `${w.verb} ${w.value} ${w.whenShort}, no menos de su límite ${w.limit}.`,
      limitPer: (w) => `al menos ${w.limit} ${w.per}`,
    },
    'no-usage': {
      headline: (w) => `sin uso ${w.whenShort}`,
      undone: (w) => `hubo uso ${w.whenShort}`,
      claim: (w) => `no ${w.verb} electricidad ${w.when}`,
      short: (w) => `no ${w.verb} electricidad ${w.whenShort}.`,
      shortUndone: (w) => `${w.verb} ${w.value} ${w.whenShort}: hubo uso.`,
      limitPer: (w) => w.limit,
    },
  },
  notices: {
    'bill-available': {
      subject: (w) => `Su factura de ${w.account} está lista`,
      body: (w) => `Su factura de ${w.account} está lista${w.amount === null ? '' : `: ${w.amount}`}${w.dueOn === null ? '' : `, vence el ${w.dueOn}`}.`,
      short: (w) => `su factura está lista${w.amount === null ? '' : `: ${w.amount}`}${w.dueOn === null ? '' : `, vence el ${w.dueOn}`}.`,
    },
    outage: {
      subject: (w) => `No hay luz en ${w.account}`,
      body: (w) => `El medidor de ${w.account} informó que se fue la luz${w.startsAt === null ? '' : ` (${w.startsAt})`}. Le avisaremos cuando vuelva.`,
      short: (w) => `se fue la luz${w.startsAt === null ? '' : ` (${w.startsAt})`}. Le avisaremos cuando vuelva.`,
    },
    restoration: {
      subject: (w) => `Volvió la luz en ${w.account}`,
      body: (w) => `El medidor de ${w.account} informó que volvió la luz${w.endsAt === null ? '' : ` (${w.endsAt})`}. Si usted sigue sin luz, llámenos.`,
      short: (w) => `volvió la luz${w.endsAt === null ? '' : ` (${w.endsAt})`}. Si usted sigue sin luz, llámenos.`,
    },
    'planned-outage': {
      subject: (w) => `Corte programado en ${w.account}`,
      body: (w) => `Cortaremos la luz en ${w.account} para trabajar en las líneas${during(w.startsAt, w.endsAt)}.`,
      short: (w) => `corte programado${during(w.startsAt, w.endsAt)}.`,
    },
    'peak-time': {
      subject: () => 'Hora pico: use menos si puede',
      body: (w) => `Todos necesitan electricidad a la vez${during(w.startsAt, w.endsAt)}. Lo que usted pueda dejar para después mantiene bajos los costos de la cooperativa.`,
      short: (w) => `hora pico${during(w.startsAt, w.endsAt)}. Use menos si puede.`,
    },
    general: { subject: (w) => `Un aviso para ${w.account}`, body: () => '', short: () => '' },
  },
  categories: { usage: 'alertas de uso', service: 'avisos de servicio', billing: 'avisos de facturación' },
  alertSubject: (account, headline) => `${account}: ${headline}`,
  correctionSubject: (account, undone) => `Corrección para ${account}: ${undone}`,
  correctionOpening: (account, claim) => `Le dijimos que ${account} ${claim}. Las lecturas se corrigieron después, y eso ya no es así.`,
  facts: {
    value: (noun) => noun, corrected: (noun) => `${noun}, corregido`, limit: 'Su límite', passed: 'Límite pasado', meter: 'Medidor',
    tou: 'Horario', range: 'Rango esperado', usual: 'Usual', data: 'Datos', dueOn: 'Vence el', from: 'Desde', until: 'Hasta',
  },
  complete: (present, due) => present === due ? `todas las ${due} lecturas hasta ahora` : `${present} de ${due} lecturas hasta ahora`,
  estimated: (count) => `${count} de ellas estimadas`,
  smsCorrection: 'corrección:',
  passedShort: (at) => `Pasado ${at}.`,
  smsReads: (present, due) => `${present}/${due} lecturas.`,
  smsStop: ' Responda STOP para terminar.',
  codeSubject: (code) => `${code} es su código de verificación`,
  codeBody: (code, minutes, utility) => `${code} es el código para confirmar esta dirección para mensajes de ${utility}.\n\n`
    + `Sirve durante ${minutes} minutos. Si usted no lo pidió, no haga caso de este mensaje: no se enviará nada más.\n`,
  codeShort: (code, minutes, utility) => `${code} es su código para mensajes de ${utility}. Sirve ${minutes} minutos.`,
  stopped: (category, utility) => `No recibirá más ${category} de ${utility} por texto. Responda START para recibirlos otra vez, HELP para ayuda.`,
  resumed: (category, utility) => `Recibirá ${category} de ${utility} por texto otra vez. Responda STOP para terminar, HELP para ayuda.`,
  help: (utility, phone) => `${utility}: mensajes sobre su electricidad.${phone === null ? '' : ` Llame al ${phone}.`} Pueden aplicar tarifas. Responda STOP para terminar.`,
  everything: 'mensajes',
  yourUtility: 'su cooperativa',
  digestSubject: (account, count) => `${account}: ${count} ${count === 1 ? 'mensaje' : 'mensajes'} sobre su uso`,
  digestOpening: 'Lo que hay que contar desde el último resumen:',
  digestShort: (count) => `${count} mensajes de uso:`,
  because: (category, utility) => `Recibe esto porque esta dirección se confirmó para ${category} de ${utility}.`,
  unsubscribe: (category) => `Terminar ${category} a esta dirección`,
  questions: (utility, phone) => `¿Preguntas? Llame a ${utility}: ${phone}.`,
  unsubscribePage: {
    unknown: 'Este enlace no se conoce aquí.',
    all: 'Terminar todos los mensajes a esta dirección',
    title: (utility) => `Mensajes de ${utility}`,
    question: (category, utility, address) => `${address} recibe ${category} de ${utility}. Nada cambia hasta que presione un botón.`,
    done: (category, utility) => `Listo: no habrá más ${category} de ${utility} a esta dirección. Puede volver a activarlos donde administra su cuenta.`,
  },
  linkNames: { usage: 'Vea su uso', preferences: 'Cambie lo que recibe', outage: 'Reporte un apagón', pay: 'Pague su factura', website: 'Sitio web' },
  chartAlt: (day, peak) => `Gráfica de su uso por hora, ${day}.${peak === null ? '' : ` ${peak}`}`,
  chartNote: (hour, peak) => `Lo más se usó ${hour}: ${peak}.`,
}

function during(from: string | null, to: string | null): string {
  if (from === null) return to === null ? '' : ` hasta ${to}`
  return to === null ? ` desde ${from}` : ` de ${from} a ${to}`
}
