from pydnn.long_work import report_work, work_shown


def test_progress_goes_to_the_innermost_context_alone():
    outer, inner = [], []
    report_work("hashing", 1, 2)  # nobody wants to see it
    with work_shown(lambda *step: outer.append(step)):
        with work_shown(lambda *step: inner.append(step)):
            report_work("hashing", 1, 2)
        report_work("hashing", 2, 2)
    assert (inner, outer) == ([("hashing", 1, 2)], [("hashing", 2, 2)])
