/** Bodies of the XML formats for bench/decoders.ts, written and indented as head-ends and portals do. */

const END = 900

/** Watt-hours of a meter's slot; the same at every run. */
function wh(meter: number, slot: number): number {
  return (meter * 7919 + slot * 104729) % 2400
}

function stamp(s: number): string {
  return new Date(s * 1000).toISOString().slice(0, 19)
}

/** A Green Button feed of blocks of a day. */
export function greenButton(meters: number, slots: number, firstS: number): string {
  const parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<feed xmlns="http://www.w3.org/2005/Atom" xmlns:espi="http://naesb.org/espi">',
    '<entry><link rel="self" href="/ReadingType/1"/><content><espi:ReadingType><espi:accumulationBehaviour>4</espi:accumulationBehaviour>',
    '<espi:flowDirection>1</espi:flowDirection><espi:intervalLength>900</espi:intervalLength>',
    '<espi:powerOfTenMultiplier>0</espi:powerOfTenMultiplier><espi:uom>72</espi:uom></espi:ReadingType></content></entry>']
  for (let m = 0; m < meters; m++) {
    parts.push(`<entry><link rel="up" href="/UsagePoint/${100_000 + m}/MeterReading/1/IntervalBlock"/><content>
  <espi:IntervalBlock>`)
    for (let i = 0; i < slots; i++) {
      parts.push(`    <espi:IntervalReading>
      <espi:ReadingQuality><espi:quality>17</espi:quality></espi:ReadingQuality>
      <espi:timePeriod>
        <espi:duration>900</espi:duration>
        <espi:start>${firstS + i * END}</espi:start>
      </espi:timePeriod>
      <espi:value>${wh(m, i)}</espi:value>
    </espi:IntervalReading>`)
    }
    parts.push('  </espi:IntervalBlock></content></entry>')
  }
  parts.push('</feed>')
  return parts.join('\n')
}

/** An IEC 61968-9 message as head-ends send it: a quality with every read. */
export function meterReadings(meters: number, slots: number, firstS: number): string {
  const parts = [`<?xml version="1.0" encoding="UTF-8"?>
<EventMessage xmlns="http://iec.ch/TC57/2011/schema/message"><Header><Verb>created</Verb><Noun>MeterReadings</Noun>
<Timestamp>${stamp(firstS)}Z</Timestamp><Source>HES</Source><MessageID>1</MessageID></Header>
<Payload><m:MeterReadings xmlns:m="http://iec.ch/TC57/2011/MeterReadings#">`]
  for (let m = 0; m < meters; m++) {
    parts.push(`  <m:MeterReading>
    <m:Meter><m:Names><m:name>M${100_000 + m}</m:name><m:NameType><m:name>MeterUniqueID</m:name></m:NameType></m:Names></m:Meter>
    <m:IntervalBlocks>
      <m:ReadingType ref="0.0.2.4.1.1.12.0.0.0.0.0.0.0.0.3.72.0"/>`)
    for (let i = 0; i < slots; i++) {
      parts.push(`      <m:IntervalReadings>
        <m:timeStamp>${stamp(firstS + (i + 1) * END)}Z</m:timeStamp>
        <m:value>${(wh(m, i) / 1000).toFixed(3)}</m:value>
        <m:ReadingQualities>
          <m:ReadingQualityType ref="1.0.0"/>
        </m:ReadingQualities>
      </m:IntervalReadings>`)
    }
    parts.push('    </m:IntervalBlocks>\n  </m:MeterReading>')
  }
  parts.push('</m:MeterReadings></Payload></EventMessage>')
  return parts.join('\n')
}

/** MultiSpeak 4.1 interval data: a day's values in one element. */
export function intervalData(meters: number, slots: number, firstS: number): string {
  const parts = [`<?xml version="1.0" encoding="utf-8"?>
<IntervalDataNotification xmlns="http://www.multispeak.org/Version_4.1_Release"><intervalReads><intervalData>
<statusDelimiter>;</statusDelimiter><intervalDelimiter>|</intervalDelimiter>
<profiles><profile profileID="p15"><name>quarter hours</name><intervalLength units="Minutes">15</intervalLength>
<channels><channel><index>1</index><fieldName>kWh Delivered</fieldName><units>kWh</units></channel></channels></profile></profiles>
<blocks>`]
  for (let m = 0; m < meters; m++) {
    const values = Array.from({ length: slots }, (_, i) => (wh(m, i) / 1000).toFixed(3)).join('|')
    parts.push(`  <block>
    <profileID>p15</profileID><meterID meterNo="M${100_000 + m}" serviceType="Electric"/>
    <logTime>${stamp(firstS + slots * END)}Z</logTime><intervalStart>${stamp(firstS)}Z</intervalStart>
    <dB><chs><ch><idx>1</idx><d>${values}</d></ch></chs></dB>
  </block>`)
  }
  parts.push('</blocks></intervalData></intervalReads></IntervalDataNotification>')
  return parts.join('\n')
}

/** The older load profile of MultiSpeak: an element for each value. */
export function loadProfile(meters: number, slots: number, firstS: number): string {
  const parts = [`<?xml version="1.0" encoding="utf-8"?>
<IntervalDataNotification xmlns="http://www.multispeak.org/Version_3.0"><intervalReads>`]
  for (let m = 0; m < meters; m++) {
    const values = Array.from({ length: slots }, (_, i) => `          <interval>${(wh(m, i) / 1000).toFixed(3)}</interval>`).join('\n')
    parts.push(`  <profileType>
    <meterID>M${100_000 + m}</meterID><dataSetNumber>1</dataSetNumber>
    <channelList><channel intervalSourceID="kWh" channelNumber="1"><blockList>
        <block endTime="${stamp(firstS + slots * END)}Z" intervalPeriod="15" endReading="12" endPulse="3">
${values}
        </block>
    </blockList></channel></channelList>
  </profileType>`)
  }
  parts.push('</intervalReads></IntervalDataNotification>')
  return parts.join('\n')
}

/** EnergyAxis's AMRDEF: attributes throughout. */
export function amrdefText(meters: number, slots: number, firstS: number): string {
  const parts = ['<?xml version="1.0" encoding="UTF-8"?>\n<AMRDEF Purpose="Export" version="1.0" CreationTime="2026-07-02 06:00:00">']
  const at = (s: number): string => stamp(s - 6 * 3600).replace('T', ' ')
  for (let m = 0; m < meters; m++) {
    parts.push(`  <MeterReadings Irn="${m}" Source="Remote" CollectionTime="${at(firstS + slots * END)}">
    <Meter MeterIrn="${m}" MeterName="M${100_000 + m}" SerialNumber="${m}" TimeZoneOffset="360" ObservesDaylightSavings="0"/>
    <IntervalData>
      <IntervalSpec UOM="kWh" Direction="Delivered" Interval="15" Channel="1" Multiplier="0.001"/>`)
    for (let i = 0; i < slots; i++) {
      parts.push(`      <Reading TimeStamp="${at(firstS + (i + 1) * END)}" RawReading="${wh(m, i)}">
        <QualityFlags/>
      </Reading>`)
    }
    parts.push('    </IntervalData>\n  </MeterReadings>')
  }
  parts.push('</AMRDEF>')
  return parts.join('\n')
}
