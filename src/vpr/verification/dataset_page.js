"use strict";
// Maps that are moved and zoomed by their viewBox.
for (const map of document.querySelectorAll("svg.map")) {
  const whole = map.viewBox.baseVal, all = { x: 0, y: 0, width: whole.width, height: whole.height };
  const show = ({ x, y, width, height }) => map.setAttribute("viewBox", `${x} ${y} ${width} ${height}`);
  const now = () => { const { x, y, width, height } = map.viewBox.baseVal; return { x, y, width, height }; };
  const zoom = (factor, atX = 0.5, atY = 0.5) => {
    const view = now(), width = Math.min(all.width * 2, view.width / factor), height = width * all.height / all.width;
    show({ x: view.x + (view.width - width) * atX, y: view.y + (view.height - height) * atY, width, height });
  };
  const share = (event) => { const box = map.getBoundingClientRect(); return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height]; };
  let from = null;
  map.addEventListener("pointerdown", (event) => { from = share(event); map.setPointerCapture(event.pointerId); });
  map.addEventListener("pointermove", (event) => {
    if (!from) return;
    const to = share(event), view = now();
    show({ ...view, x: view.x - (to[0] - from[0]) * view.width, y: view.y - (to[1] - from[1]) * view.height });
    from = to;
  });
  for (const end of ["pointerup", "pointercancel"]) map.addEventListener(end, () => { from = null; });
  map.addEventListener("wheel", (event) => { if (!event.ctrlKey) return; event.preventDefault(); zoom(event.deltaY < 0 ? 1.2 : 1 / 1.2, ...share(event)); }, { passive: false });
  map.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(1.5);
    else if (event.key === "-") zoom(1 / 1.5);
    else if (event.key === "0") show(all);
    else return;
    event.preventDefault();
  });
}
