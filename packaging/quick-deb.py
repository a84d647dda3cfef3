#!/usr/bin/env python3
"""quick-deb.py VERSION OUTPUT - the Debian package without cargo-deb, for tests: the files and scripts that Cargo.toml names for that one, as
build.sh has staged them."""
import glob, json, pathlib, shutil, subprocess, sys, tempfile

version, output = sys.argv[1:]
metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--no-deps", "--format-version", "1"]))
package = next(package for package in metadata["packages"] if package["name"] == "pgbosun")
deb = package["metadata"]["deb"]
with tempfile.TemporaryDirectory() as directory:
    root = pathlib.Path(directory)
    root.chmod(0o755)
    for source, target, mode in deb["assets"]:
        found = glob.glob(source)
        assert found, f"{source}: there is no such file"
        for file in found:
            place = root / target / pathlib.Path(file).name if target.endswith("/") else root / target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
            place.chmod(int(mode, 8))
    control = root / "DEBIAN"
    control.mkdir()
    depends = deb["depends"].replace("$auto", "libc6")
    (control / "control").write_text(
        f"Package: pgbosun\nVersion: {version}\nArchitecture: {subprocess.check_output(['dpkg', '--print-architecture'], text=True).strip()}\n"
        f"Maintainer: {deb['maintainer']}\nDepends: {depends}\nDescription: {package['description']}\n"
    )
    (control / "conffiles").write_text("".join(f"{file}\n" for file in deb["conf-files"]))
    for script in pathlib.Path(deb["maintainer-scripts"]).iterdir():
        shutil.copyfile(script, control / script.name)
        (control / script.name).chmod(0o755)
    for made in root.rglob("*"):
        if made.is_dir():
            made.chmod(0o755)
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", directory, output], check=True, stdout=subprocess.DEVNULL)
