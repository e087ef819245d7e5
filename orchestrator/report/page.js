// The report's behaviour: the plot, the link between its points and the tables' rows, and the pair selector.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const plot = document.getElementById("plot");
  const SHAPES = ["circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "x"];
  const GLYPHS = {
    star: "\u2605", circle: "\u25cf", square: "\u25a0", "triangle-up": "\u25b2", diamond: "\u25c6",
    "triangle-down": "\u25bc", cross: "\u271a", x: "\u2716\ufe0e",
  };
  const RATIOS = [1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 8, 10, 12, 16];
  const PALE = 0.3;
  // In pixels: beside the plot, for a ratio above it, and for the buttons, which would cover the ratios of a narrow one.
  const MARGINS = 90;
  const TICK_GAP = 38;
  const BUTTONS_FROM = 600;
  const compressed = data.kinds.filter((kind) => kind !== "baseline" && kind !== data.others);
  let shown = "dev";
  let pinned = null;

  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const safe = (value) => String(value).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  const kindColor = (kind) =>
    kind === "baseline" ? color("--ink") : kind === data.others ? color("--faint") : color(`--kind-${compressed.indexOf(kind) % SHAPES.length}`);
  const kindSize = (kind) => (kind === "baseline" ? 15 : kind === data.others ? 7 : kindShape(kind).startsWith("triangle") ? 13 : 10);
  // Each round of colours takes the shapes one further, so that no two of 49 kinds look alike.
  const shapeOf = (index) => SHAPES[(index + Math.floor(index / SHAPES.length)) % SHAPES.length];
  const kindShape = (kind) => (kind === "baseline" ? "star" : kind === data.others ? "circle" : shapeOf(compressed.indexOf(kind)));

  const hollow = (point) => point.tied;
  const chosen = (point) => point.frontier || point.tied || point.reference;
  const pointShape = (point, kind) => (point.keptOff.length ? "x-thin" : kindShape(kind));

  function hoverText(point) {
    const lines = [
      `<b>${safe(point.steps)}</b>`,
      `trial ${point.trial}${point.reference ? ", a reference point" : ""}${point.frontier ? ", on the frontier" : ""}`,
      `${point.sizeText}, ${point.bytes.toLocaleString("en")} bytes, ${point.ratioText}`,
      `${data.metric} ${point.quality.toFixed(2)}` + (point.bounds ? ` (${point.intervalText} against the baseline)` : ""),
    ];
    if (point.costText) lines.push(safe(point.costText));
    if (point.others.length) lines.push(safe(point.others.join(", ")));
    lines.push(`worst pair ${safe(point.worstPair)}: ${data.metric} ${point.worst.toFixed(2)}`);
    if (point.standing) lines.push(safe(point.standing));
    for (const reason of point.keptOff) lines.push(`kept off the frontier: ${safe(reason)}`);
    return lines.join("<br>");
  }

  function droppedText(trial) {
    return [
      `<b>${safe(trial.steps)}</b>`, `trial ${trial.trial}, ${trial.sizeText}, ${trial.ratioText}`, safe(trial.why),
      `projected ${data.metric} ${trial.projected.toFixed(2)}`,
    ].join("<br>");
  }

  function bars(points, kind, opacity) {
    const drawn = points.filter((point) => point.bounds);
    return {
      type: "scatter", mode: "lines", hoverinfo: "skip", opacity,
      line: { color: kindColor(kind), width: 1.6 },
      x: drawn.flatMap((point) => [point.size, point.size, null]),
      y: drawn.flatMap((point) => [...point.bounds, null]),
    };
  }

  function markers(points, kind) {
    return {
      type: "scatter", mode: "markers", hovertemplate: "%{text}<extra></extra>",
      x: points.map((point) => point.size), y: points.map((point) => point.quality), text: points.map(hoverText),
      customdata: points.map((point) => point.digest),
      marker: {
        symbol: points.map((point) => pointShape(point, kind)), size: kindSize(kind),
        color: points.map((point) => (hollow(point) ? color("--panel") : kindColor(kind))),
        opacity: points.map((point) => (chosen(point) || kind === "baseline" ? 1 : PALE)),
        line: {
          width: points.map((point) => (hollow(point) || point.keptOff.length ? 2 : 1)),
          color: points.map((point) => (hollow(point) || point.keptOff.length ? kindColor(kind) : color("--panel"))),
        },
      },
    };
  }

  function dropped(trials) {
    return {
      type: "scatter", mode: "markers", 
      hovertemplate: "%{text}<extra></extra>", customdata: trials.map((trial) => trial.digest),
      x: trials.map((trial) => trial.size), y: trials.map((trial) => trial.projected), text: trials.map(droppedText),
      marker: { symbol: "line-ew-open", size: 11, color: color("--faint"), opacity: 0.55, line: { width: 2 } },
    };
  }

  const beyond = (view, height) => view.range && (height < view.range[0] || height > view.range[1]);

  // What lies beyond the axis, at its edge: it must not squeeze what stands.
  function farOff(view) {
    const places = [
      ...view.points.map((point) => ({ ...point, height: point.quality, said: hoverText(point) })),
      ...view.dropped.map((trial) => ({ ...trial, height: trial.projected, said: droppedText(trial) })),
    ].filter((place) => beyond(view, place.height));
    const below = (place) => place.height < view.range[0];
    return {
      type: "scatter", mode: "markers", hovertemplate: "%{text}<extra></extra>", cliponaxis: false,
      customdata: places.map((place) => place.digest), text: places.map((place) => place.said),
      x: places.map((place) => place.size), y: places.map((place) => view.range[below(place) ? 0 : 1]),
      marker: { symbol: places.map((place) => (below(place) ? "triangle-down" : "triangle-up")), size: 9,
        color: color("--faint"), opacity: 0.6 },
    };
  }

  // Other people's models: hollow and grey, named beside the mark while they are few.
  function published(view) {
    const inside = (height) => (view.range ? Math.min(Math.max(height, view.range[0]), view.range[1]) : height);
    const said = (one) => [
      `<b>${safe(one.name)}</b>`, safe(data.published), safe([one.ratioText, one.keptText].filter(Boolean).join(", ")), safe(one.source),
    ].filter(Boolean).join("<br>");
    return {
      type: "scatter", mode: view.published.length > 8 || plot.clientWidth < 600 ? "markers" : "markers+text", cliponaxis: false,
      hovertext: view.published.map(said), hovertemplate: "%{hovertext}<extra></extra>",
      x: view.published.map((one) => one.size), y: view.published.map((one) => inside(one.quality)),
      text: view.published.map((one) => `<i>${safe(one.name)}</i>`), textposition: "top center",
      textfont: { color: color("--faint"), size: 11 }, customdata: view.published.map(() => null),
      marker: { symbol: "hexagon-open", size: 11, color: color("--faint"), line: { width: 1.8 } },
    };
  }

  const farOffPlaces = (view) => farOff(view).x.length > 0;

  // Below the plot and not in it, so that it covers no axis on a narrow page: [glyph, colour, words].
  function legendEntries(view) {
    const faint = color("--faint");
    const kinds = data.kinds.filter((kind) => view.points.some((point) => point.kind === kind));
    return [
      ["\u2500", faint, "frontier"],
      ...kinds.map((kind) => [GLYPHS[kindShape(kind)], kindColor(kind), kind]),
      ...(view.points.some(hollow) ? [["\u25cb", faint, "hollow: not told apart from a smaller point"]] : []),
      ...(view.points.some((point) => point.keptOff.length)
        ? [["\u00d7", faint, "kept off: fails a check or a limit, or is below the floor"]] : []),
      ...(view.points.some((point) => point.reference) ? [["\u25a1", color("--ink"), "in a box: a reference point of the study"]] : []),
      ...(view.dropped.length ? [["\u2013", faint, "dropped early, where it was heading"]] : []),
      ...(view.published.length ? [["\u2b21", faint, data.published]] : []),
      ...(farOffPlaces(view) ? [["\u25bd", faint, "beyond the axis"]] : []),
    ];
  }

  function drawLegend(view) {
    const list = document.getElementById("legend");
    list.replaceChildren(...legendEntries(view).map(([glyph, shade, words]) => {
      const entry = document.createElement("li");
      const sign = document.createElement("span");
      sign.textContent = glyph;
      sign.style.color = shade;
      entry.append(sign, words);
      return entry;
    }));
  }

  function traces(view) {
    const list = [{
      type: "scatter", mode: "lines", hoverinfo: "skip", opacity: 0.7,
      line: { shape: "hv", color: color("--faint"), width: 1.3 },
      x: view.line.map(([size]) => size), y: view.line.map(([, quality]) => quality),
    }];
    for (const kind of data.kinds) {
      const points = view.points.filter((point) => point.kind === kind);
      if (!points.length) continue;
      list.push(bars(points.filter((point) => !chosen(point)), kind, PALE));
      list.push(bars(points.filter(chosen), kind, 0.8));
      list.push(markers(points, kind));
    }
    const marks = view.points.filter((point) => point.reference && !beyond(view, point.quality));
    if (marks.length) {
      list.push({
        type: "scatter", mode: "markers", hoverinfo: "skip",
        x: marks.map((point) => point.size), y: marks.map((point) => point.quality),
        marker: { symbol: "square-open", size: 18, color: color("--ink"), line: { width: 1.2 } },
      });
    }
    if (view.dropped.length) list.push(dropped(view.dropped));
    if (view.published.length) list.push(published(view));
    list.push(farOff(view));
    const lit = view.points.filter((point) => point.digest === pinned);
    list.push({
      type: "scatter", mode: "markers", hoverinfo: "skip",
      x: lit.map((point) => point.size), y: lit.map((point) => point.quality),
      marker: { symbol: "circle-open", size: 20, color: color("--accent"), line: { width: 2.5 } },
    });
    if (view.baseline) {
      list.push({ type: "scatter", mode: "markers", x: [view.baseline.size], y: [view.baseline.quality], xaxis: "x2",
        hoverinfo: "skip", marker: { opacity: 0 } });
    }
    return list;
  }

  const sizesOf = (view) => [...view.points, ...view.dropped, ...view.published].map((point) => point.size);

  // From the uncompressed model on, those whose words do not touch.
  function ratiosThatFit(view) {
    const place = view.logarithmic ? Math.log : (size) => size;
    const sizes = sizesOf(view);
    const least = Math.min(...sizes);
    const unit = (place(Math.max(...sizes)) - place(least)) / Math.max(plot.clientWidth - MARGINS, 1);
    const at = (ratio) => place(view.baseline.size / ratio);
    const fit = [];
    for (const ratio of RATIOS.filter((ratio) => view.baseline.size / ratio >= least * 0.95)) {
      const gap = fit.length ? at(fit[fit.length - 1]) - at(ratio) : Infinity;
      if (gap >= TICK_GAP * unit) fit.push(ratio);
    }
    return fit;
  }

  function layout(view) {
    const faint = color("--faint");
    const axis = { gridcolor: color("--rule"), linecolor: color("--rule"), zeroline: false, tickfont: { color: faint } };
    // "D2": ticks at 1, 2 and 5 of every power of ten.
    const scale = view.logarithmic ? { type: "log", dtick: "D2", tickformat: ",~g" } : {};
    const result = {
      paper_bgcolor: color("--panel"), plot_bgcolor: color("--panel"), hovermode: "closest", dragmode: "zoom",
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") },
      margin: { l: 66, r: 24, t: 48, b: 66 },
      xaxis: { ...axis, ...scale, title: { text: `size on disk, ${data.unit}`, font: { size: 13 }, standoff: 12 } },
      yaxis: { ...axis, ...(view.range ? { range: view.range } : {}), title: { text: `quality, mean ${data.metric} over language pairs`, font: { size: 13 } } },
      showlegend: false,
      hoverlabel: { bgcolor: color("--panel"), bordercolor: color("--rule"), align: "left",
        font: { color: color("--ink"), family: getComputedStyle(document.body).fontFamily } },
    };
    if (view.baseline) {
      const ratios = ratiosThatFit(view);
      result.xaxis2 = {
        ...(view.logarithmic ? { type: "log" } : {}), overlaying: "x", side: "top", matches: "x", showgrid: false, zeroline: false, ticks: "outside", ticklen: 4,
        tickcolor: color("--rule"), tickfont: { color: faint, size: 11 }, tickangle: 0, tickmode: "array",
        tickvals: ratios.map((ratio) => view.baseline.size / ratio), ticktext: ratios.map((ratio) => `${ratio}×`),
      };
      result.shapes = [{
        type: "line", xref: "paper", x0: 0, x1: 1, y0: view.baseline.quality, y1: view.baseline.quality, layer: "below",
        line: { color: faint, width: 1, dash: "dash" },
      }];
    }
    return result;
  }

  function draw() {
    if (!plot || !window.Plotly) return;
    const view = data.views[shown];
    drawLegend(view);
    Plotly.react(plot, traces(view), layout(view), {
      responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
      displayModeBar: plot.clientWidth < BUTTONS_FROM ? false : "hover",
      toImageButtonOptions: { filescale: 2 },
    });
  }

  function light(digest) {
    for (const row of document.querySelectorAll("tr[data-digest]")) {
      row.classList.toggle("lit", row.dataset.digest === digest || row.dataset.digest === pinned);
    }
  }

  function pin(digest) {
    pinned = pinned === digest ? null : digest;
    light(null);
    draw();
  }

  function watchPlot() {
    if (!plot || !window.Plotly) return;
    draw();
    plot.on("plotly_hover", (event) => light(event.points[0].customdata));
    plot.on("plotly_unhover", () => light(null));
    plot.on("plotly_click", (event) => event.points[0].customdata && pin(event.points[0].customdata));
    for (const row of document.querySelectorAll("tr[data-digest]")) {
      row.addEventListener("click", () => pin(row.dataset.digest));
    }
    for (const button of document.querySelectorAll("button[data-view]")) {
      button.addEventListener("click", () => {
        shown = button.dataset.view;
        for (const other of document.querySelectorAll("button[data-view]")) {
          other.setAttribute("aria-pressed", String(other === button));
        }
        draw();
      });
    }
    window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  }

  function watchPairs() {
    const selector = document.getElementById("pair");
    if (!selector) return;
    const show = () => {
      for (const group of document.querySelectorAll(".pair")) group.hidden = group.dataset.pair !== selector.value;
    };
    selector.addEventListener("change", show);
    show();
  }

  watchPairs();
  watchPlot();
})();
