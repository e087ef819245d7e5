// The viewer of single segments. Texts become text nodes, never HTML.
"use strict";
(() => {
  const stored = document.getElementById("segments-data");
  if (!stored) return;
  const data = JSON.parse(stored.textContent);
  const viewer = document.getElementById("segments-viewer");
  const chooser = (name) => document.getElementById(`segments-${name}`);
  const list = chooser("list");
  const MINUS = "\u2212";
  const PAGE = 10;
  let first = 0;

  function element(name, style, ...inside) {
    const made = document.createElement(name);
    if (style) made.className = style;
    made.append(...inside);
    return made;
  }

  const candidate = () => data.candidates[Number(chooser("candidate").value)];
  const baselineOf = (row) => (data.baseline ? data.baseline.rows[row.at] : null);
  const failed = (row) => (row && row.failed) || [];

  // Candidate minus baseline, or the score alone where there is no baseline; null where there is no score.
  function difference(row) {
    const usual = baselineOf(row);
    if (row.score === null || (usual && usual.score === null)) return null;
    return row.score - (usual ? usual.score : 0);
  }

  const signed = (value) => `${value > 0 ? "+" : value < 0 ? MINUS : ""}${Math.abs(value).toFixed(1)}`;

  function ofPair() {
    const pair = chooser("pair").value;
    return candidate().rows.filter((row) => !pair || data.segments[row.at].pair === pair);
  }

  function chosenRows() {
    const check = chooser("check").value;
    const rows = ofPair().filter((row) => !check || (check === "*" ? failed(row).length : failed(row).includes(check)));
    const order = chooser("order").value;
    if (order === "data") return rows.sort((a, b) => a.line - b.line);
    const last = order === "drop" ? Infinity : -Infinity;
    const place = (row) => difference(row) ?? last;
    return rows.sort((a, b) => (order === "drop" ? place(a) - place(b) : place(b) - place(a)) || a.line - b.line);
  }

  // Each check with how many segments fail it, of this candidate and pair.
  function offerChecks() {
    const select = chooser("check");
    const before = select.value;
    const rows = ofPair();
    const counted = (check) => rows.filter((row) => failed(row).includes(check)).length;
    const option = (value, words) => {
      const made = element("option", "", words);
      made.value = value;
      return made;
    };
    const failing = Object.entries(data.checks).filter(([check]) => counted(check) || check === before);
    select.replaceChildren(
      option("", "any segment"), option("*", `fails a check (${rows.filter((row) => failed(row).length).length})`),
      ...failing.map(([check, words]) => option(check, `${words} (${counted(check)})`)),
    );
    select.value = before;
  }

  function line(name, about, language, style, inside) {
    const term = element("dt", "", name);
    if (about) term.append(element("span", "note", about));
    const said = element("dd", "", ...(inside.length ? inside : [element("span", "empty", "(empty)")]));
    said.lang = language;
    said.dir = "auto";
    return element("div", style, term, said);
  }

  // One side of the stretches: 0 the candidate's, 1 the baseline's; what the other side lacks is marked.
  function side(parts, which) {
    const here = parts.map((part) => (typeof part === "string" ? part : part[which])).join("");
    if (!here.trim()) return [];
    return parts.filter((part) => typeof part === "string" || part[which]).map((part) => {
      if (typeof part === "string") return part;
      return part[which].trim() ? element("mark", which ? "lost" : "", part[which]) : part[which];
    });
  }

  const plain = (value) => (value.trim() ? [value] : []);
  const checksOf = (row) => failed(row).map((check) => element("span", "badge", data.checks[check]));
  const scoreText = (row) => (row.score === null ? "" : `${data.metric} ${row.score.toFixed(1)}`);

  function article(row) {
    const segment = data.segments[row.at];
    const usual = baselineOf(row);
    const change = difference(row);
    const title = element("h3", "", `${segment.id} \u00b7 ${segment.pair}`);
    if (usual && change !== null) {
      const style = change < -0.05 ? "change worse" : change > 0.05 ? "change better" : "change";
      title.append(element("span", style, `${signed(change)} ${data.metric}`));
    }
    if (usual && !row.parts) title.append(element("span", "change", "same as the baseline's"));
    const lines = element("dl", "");
    lines.append(line("source", "", segment.from, "given", plain(segment.source)));
    for (const one of segment.references) lines.append(line("reference", "", segment.to, "given", plain(one)));
    const ours = row.parts ? side(row.parts, 0) : plain(usual ? usual.text : row.text);
    if (usual) {
      const theirs = row.parts ? side(row.parts, 1) : plain(usual.text);
      lines.append(line("baseline", scoreText(usual), segment.to, "base", [...theirs, ...checksOf(usual)]));
    }
    lines.append(line(candidate().label, scoreText(row), segment.to, "", [...ours, ...checksOf(row)]));
    return element("article", "sample", title, lines);
  }

  function draw() {
    offerChecks();
    const rows = chosenRows();
    first = Math.max(0, Math.min(first, PAGE * Math.floor((rows.length - 1) / PAGE)));
    const last = Math.min(first + PAGE, rows.length);
    const named = (name) => chooser(name).selectedOptions[0].textContent;
    const pair = chooser("pair").value ? `, ${chooser("pair").value}` : "";
    const check = chooser("check").value ? `, ${named("check").replace(/ \(\d+\)$/, "")}` : "";
    const which = `${named("candidate")}${pair}${check}, ${named("order")}`;
    const count = rows.length ? `${first + 1} to ${last} of ${rows.length.toLocaleString("en")}` : "no segment";
    for (const status of viewer.querySelectorAll(".pages")) status.textContent = `${count} \u00b7 ${which}`;
    for (const button of viewer.querySelectorAll("[data-turn]")) {
      const end = button.dataset.turn === "1" ? last >= rows.length : first === 0;
      button.setAttribute("aria-disabled", String(end));
    }
    list.replaceChildren(...rows.slice(first, last).map(article));
  }

  for (const name of ["candidate", "pair", "check", "order"]) {
    chooser(name).addEventListener("change", () => {
      first = 0;
      draw();
    });
  }
  for (const button of viewer.querySelectorAll("[data-turn]")) {
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") === "true") return;
      first += PAGE * Number(button.dataset.turn);
      draw();
      // Below the list a reader would be left at the end of the next page.
      const status = viewer.querySelector(".pages");
      if (button.closest(".pager").querySelector(".pages") !== status) {
        viewer.scrollIntoView();
        status.focus({ preventScroll: true });
      }
    });
  }
  draw();
})();
