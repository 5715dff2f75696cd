from genjax.cli import main

main()
