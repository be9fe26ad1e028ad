from cliplab.cli import main

main(__file__)
